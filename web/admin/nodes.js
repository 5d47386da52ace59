// @ts-check
/** The nodes of the cluster in the operators' page. */

/**
 * @typedef {{node: string, url: string, region: string, version: string, verdict: string, heard_ms: number, busy: number,
 *            rooms: number, shards: {busy: number, clients: number, packets: number}[]}} Node
 */

/** Shows them as this server sees them; nothing where it is alone. @param {HTMLElement} section @param {Node[] | undefined} nodes */
export function showNodes(section, nodes = []) {
  section.hidden = nodes.length === 0;
  const table = document.createElement('table');
  const head = table.createTHead().insertRow();
  for (const name of ['Node', 'Is', 'Last beat', 'Busy', 'Rooms', 'Clients', 'Region', 'Version']) {
    const cell = document.createElement('th');
    cell.scope = 'col';
    cell.textContent = name;
    head.append(cell);
  }
  const body = table.createTBody();
  for (const { node, url, region, version, verdict, heard_ms, busy, rooms, shards } of nodes) {
    const row = body.insertRow();
    const link = document.createElement('a');
    link.href = url;
    link.textContent = node;
    row.insertCell().append(link);
    const is = row.insertCell();
    is.textContent = verdict === 'own' ? 'this one' : verdict;
    is.classList.toggle('bad', ['silent', 'dead', 'unheard'].includes(verdict));
    const clients = shards.reduce((sum, shard) => sum + shard.clients, 0);
    for (const text of [`${heard_ms} ms`, `${(busy / 10).toFixed(1)} %`, String(rooms), String(clients), region, version]) {
      row.insertCell().textContent = text;
    }
  }
  section.replaceChildren(table);
}

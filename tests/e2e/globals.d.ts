/** What the tests put into the pages, and what the page shows them (web/page.js). */
interface Window {
  moonring: any;
  [name: string]: any;
}

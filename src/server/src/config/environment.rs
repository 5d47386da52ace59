//! Variables of the environment that look like settings and are none.

use std::ffi::OsString;

use super::Options;

/// What the names of all settings begin with.
const PREFIX: &str = "MOONRING_";

/// The names of the variables that were meant for this program and are no setting's, sorted.
pub(crate) fn unknown_variables(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Vec<String> {
    let mut unknown: Vec<String> = variables
        .into_iter()
        .filter_map(|(name, value)| {
            let name = name.into_string().ok()?;
            let rest = name.strip_prefix(PREFIX)?;
            let setting = rest.to_lowercase();
            let is_known =
                setting.to_uppercase() == rest && (setting == "config" || Options::NAMES.contains(&setting.as_str()));
            (!is_known && !tells_of_a_service(&setting, &value.to_string_lossy())).then_some(name)
        })
        .collect();
    unknown.sort();
    unknown
}

/// Kubernetes tells each container of the services of its namespace, of one that is called `moonring` under names that begin as
/// those of the settings: `…SERVICE_HOST`, `…SERVICE_PORT_HTTPS`, `…PORT=tcp://…`, `…PORT_443_TCP_ADDR`.
fn tells_of_a_service(setting: &str, value: &str) -> bool {
    let setting = format!("_{setting}");
    let is_port = |rest: &str| rest.starts_with(|first: char| first.is_ascii_digit());
    setting.ends_with("_service_host")
        || setting.contains("_service_port")
        || (setting.ends_with("_port") && value.contains("://"))
        || setting.split("_port_").skip(1).any(is_port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_of_no_setting_is_named_and_one_that_kubernetes_puts_in_is_not() {
        let variables = [
            ("PATH", "/bin"),
            ("MOONRING_SECRETT", "x"),
            ("MOONRING_SECRET", "x"),
            ("MOONRING_CONFIG", "x"),
            ("MOONRING_listen", "x"),
            ("MOONRING_", ""),
            ("MOONRING_PORT", "8080"),
            ("MOONRING_ADMIN_PORT", "tcp://10.0.0.1:8081"),
            ("MOONRING_PORT_443_TCP_ADDR", "10.0.0.1"),
            ("MOONRING_SERVICE_HOST", "10.0.0.1"),
            ("MOONRING_SFU_SERVICE_PORT_HTTPS", "443"),
            ("MOONRING_MEDIA_PORT_RANGE", "1-2"),
        ];
        let variables = variables.map(|(name, value)| (name.into(), value.into()));
        assert_eq!(
            unknown_variables(variables),
            ["MOONRING_", "MOONRING_MEDIA_PORT_RANGE", "MOONRING_PORT", "MOONRING_SECRETT", "MOONRING_listen"]
        );
    }
}

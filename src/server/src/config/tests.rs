mod documents;

use super::help::{TO_ASK, TO_RELOAD, command_line};
use super::*;

const EXAMPLE: &str = include_str!("../../../../moonring.example.toml");

#[test]
fn the_example_file_names_every_key_with_its_default() {
    let options = parse_file(EXAMPLE).unwrap();
    assert_eq!(options.given(), Options::NAMES);
    assert_eq!(options.or_default(), Config::default());
    Config::default().check().unwrap();
}

#[test]
fn command_line_beats_file_beats_default() {
    let cli = Cli::parse_from(["moonring", "run", "--shards=3", "--insecure-http", "--media-ip=127.0.0.1,::1"]);
    assert_eq!(cli.command, Some(Verb::Run));
    let file = parse_file("shards = 2\nresend_ms = 7\nroom_scripts = [\"a*=b.lua\"]").unwrap();
    let config = cli.options.or(file).or_default();
    assert_eq!((config.shards(), config.resend_ms, config.resend_kib), (3, 7, 1024));
    assert_eq!(config.media_ip, ["127.0.0.1".parse::<IpAddr>().unwrap(), "::1".parse().unwrap()]);
    assert!(config.insecure_http && !config.trust_proxy);
    assert!(config.room_scripts[0].pattern.compile_matcher().is_match("abc"));
}

#[test]
fn every_key_is_an_option_and_an_environment_variable_of_the_same_name() {
    let command = <Cli as clap::CommandFactory>::command();
    for name in Options::NAMES {
        let argument = command.get_arguments().find(|a| a.get_id() == name).unwrap();
        assert_eq!(argument.get_long().unwrap(), name.replace('_', "-"));
        assert_eq!(argument.get_env().unwrap(), format!("MOONRING_{}", name.to_uppercase()).as_str());
    }
    command.debug_assert();
}

#[test]
fn a_verbs_help_lists_the_settings_that_it_reads_and_no_others() {
    let mut all = vec!["config"];
    all.extend(Options::NAMES);
    for (verb, read) in [
        ("", &all[..]),
        ("run", &all),
        ("rooms", TO_ASK),
        ("kick", TO_ASK),
        ("scripts push", TO_ASK),
        ("reload", TO_RELOAD),
        ("check", &[]),
        ("test", &[]),
        ("replay", &[]),
    ] {
        let mut command = &mut command_line();
        for name in verb.split_whitespace() {
            command = command.find_subcommand_mut(name).unwrap();
        }
        let help = command.render_long_help().to_string();
        let options = help.lines().filter_map(|line| line.trim_start().strip_prefix("--")?.split([' ', '[']).next());
        let mut listed: Vec<_> = options.map(|name| name.replace('-', "_")).collect();
        listed.retain(|name| all.contains(&name.as_str()));
        listed.sort();
        let mut read = read.to_vec();
        read.sort_unstable();
        assert_eq!(listed, read, "{verb}");
        assert!(help.contains("--help"), "{help}");
    }
    let kick = ["moonring", "kick", "room", "client", "--admin-listen=127.0.0.1:9", "--shards=3"];
    let cli = Cli::from_arg_matches(&command_line().try_get_matches_from(kick).unwrap()).unwrap();
    assert_eq!((cli.options.shards, cli.options.admin_listen.map(|at| at.port())), (Some(3), Some(9)));
}

#[test]
fn an_error_in_the_file_names_the_file_the_line_and_the_key() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("moonring.toml");
    for (text, words) in [
        (
            "shards = 1\nxyzzy = 2",
            "line 2: unknown field `xyzzy`; moonring.example.toml has all settings, none of them in a [table]",
        ),
        ("[server]\nshards = 1", "line 1: unknown field `server`; moonring.example.toml has all"),
        ("announced_ips = []", "line 1: unknown field `announced_ips`; announced_ip is a setting"),
        ("tls-cert = \"a\"", "line 1: unknown field `tls-cert`; tls_cert is a setting"),
        ("shards = 1\nshards = 2", "line 2: duplicate key `shards`: a setting stands once"),
        ("media_ports = \"9-1\"", "moonring.toml: line 1: \"9-1\" is not a range of ports"),
        ("script_config = [\"max\"]", "a setting of script_config is not <name>=<value>"),
        ("script_config = [\"a b=1\"]", "is not of letters, digits and '_'"),
        ("script_headers = [\"x tenant\"]", "\"x tenant\" is not the name of a header"),
        ("room_scripts = [\"x=../../etc/passwd\"]", "is not a .lua file below the folder of scripts"),
        ("shards = -1", "moonring.toml: line 1: invalid value"),
        ("shards = ", "moonring.toml: line 1:"),
        ("on_save = \"relod\"", "unknown variant `relod`, expected one of `reload`, `canary`, `nothing`"),
        ("listen = \":8080\"", "line 1: not an IP address with a port, such as 127.0.0.1:8080 or [::]:8080"),
        ("announced_ip = [\"sfu.example.com\"]", "line 1: not an IP address, such as 203.0.113.7 or 2001:db8::7"),
        ("listen = 8080", "integer `8080`, expected an IP address with a port, in quotes"),
        ("shards = \"2\"", "string \"2\", expected a whole number"),
        ("announced_ip = \"203.0.113.7\"", "string \"203.0.113.7\", expected a list in [ ]"),
    ] {
        std::fs::write(&path, text).unwrap();
        let error = format!("{:#}", read_file(&path).unwrap_err());
        assert!(error.contains(words) && !error.contains('\n'), "{text}: {error}");
    }
    let error = format!("{:#}", read_file(&dir.path().join("absent")).unwrap_err());
    assert!(error.contains("absent: No such file"), "{error}");
}

#[test]
fn a_path_that_may_be_empty_is_so_on_the_command_line_too() {
    let empty =
        ["tls-cert", "tls-key", "data-dir", "cluster-secret-file", "cluster-login-file", "cluster-ca", "http-ca"];
    let empty = empty.iter().chain(&["take-over"]).map(|name| format!("--{name}="));
    let cli = Cli::try_parse_from(["moonring".to_owned()].into_iter().chain(empty)).unwrap();
    let config = cli.options.or(parse_file("data_dir = \"/srv\"\ntake_over = \"/run/x\"").unwrap()).or_default();
    assert_eq!((config.data_dir, config.take_over), (PathBuf::new(), PathBuf::new()));
}

#[test]
fn an_address_on_the_command_line_that_is_none_is_answered_with_the_form_of_one() {
    for (given, words) in [
        ("--listen=localhost:8080", "not an IP address with a port, such as 127.0.0.1:8080 or [::]:8080"),
        ("--admin-listen=8081", "not an IP address with a port"),
        ("--announced-ip=203.0.113.7,sfu.example.com", "not an IP address, such as 203.0.113.7 or 2001:db8::7"),
        ("--media-ip=eth0", "not an IP address, such as"),
        ("--link-ip=n1", "not an IP address, such as"),
    ] {
        let error = Cli::try_parse_from(["moonring", given]).unwrap_err().to_string();
        assert!(error.contains(words), "{given}: {error}");
    }
}

#[test]
fn settings_that_make_no_sense_are_refused_by_name() {
    for (text, words) in [
        (
            "admin_listen = \"0.0.0.0:8081\"",
            "admin_listen is 0.0.0.0:8081, beyond loopback, where everybody could close rooms: set admin_token",
        ),
        ("admin_listen = \"[::]:1\"\nadmin_token = \"\"", "admin_listen is [::]:1, beyond loopback"),
        ("webhook_url = \"https://a.example/\"", "webhook_url and webhook_secret go together"),
        ("step_budget_ms = 0", "step_budget_ms is 0, it has to be 1 to 1000"),
        ("memory_kib = 9000", "memory_kib is 9000"),
        (
            "shards = 3\nmedia_ports = \"40000-40001\"",
            "media_ports 40000-40001 has fewer ports than there are shards (3)",
        ),
        ("tls_cert = \"a.pem\"", "tls_cert and tls_key go together"),
        ("media_ip = [\"10.0.0.1\", \"10.0.0.2\"]", "media_ip has to be one IPv4"),
        ("secret = \"\"", "secret is empty"),
        (
            &format!("script_headers = {:?}", vec!["x-a"; 17]),
            "the number of script_headers is 17, it has to be 0 to 16",
        ),
        ("rooms_max = 0", "rooms_max is 0, it has to be 1 or more"),
        (
            "announced_ip = [\"203.0.113.7\", \"::\"]",
            "announced_ip has ::, to which no client can send media: name the",
        ),
        ("announced_ip = [\"0.0.0.0\"]", "announced_ip has 0.0.0.0, to which no client can send"),
        ("announced_ip = [\"224.0.0.1\"]", "announced_ip has 224.0.0.1"),
        ("announced_ip = [\"255.255.255.255\"]", "announced_ip has 255.255.255.255"),
        ("sandbox = [\"none\", \"files\"]", "sandbox has none beside others: none stands alone"),
        ("cluster_stores = [\"store\", \"none\"]", "cluster_stores has none beside others"),
        (
            "script_config = [\"secret=x\"]",
            "script_config has secret, which scripts have from the setting of that name",
        ),
        ("script_config = [\"a=1\", \"b=2\", \"a=3\"]", "script_config has a twice"),
        ("srtp_profiles = []", "srtp_profiles is empty"),
        ("load_budget_ms = 3332", "hold its shard for 10001 ms, which watchdog_s (10) takes for stuck"),
        ("watchdog_s = 1\nstep_budget_ms = 940", "hold its shard for 1000 ms, which watchdog_s (1)"),
    ] {
        let error = parse_file(text).unwrap().or_default().check().unwrap_err().to_string();
        assert!(error.contains(words), "{text}: {error}");
    }
    for text in ["load_budget_ms = 3331", "load_budget_ms = 10000\nwatchdog_s = 0", "watchdog_s = 1"] {
        parse_file(text).unwrap().or_default().check().unwrap();
    }
}

#[test]
fn a_verb_that_asks_a_running_server_goes_by_no_settings_but_those_that_it_reads() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("moonring.toml");
    let cli = |text: &str| {
        std::fs::write(&path, text).unwrap();
        Cli::try_parse_from(["moonring", "rooms", "--config", path.to_str().unwrap()]).unwrap()
    };
    // The secret is in the server's environment, and the machine has other cores than this one.
    for text in ["webhook_url = \"https://a.example/\"", "shards = 300", "tls_cert = \"a.pem\""] {
        let text = &format!("admin_listen = \"127.0.0.1:9\"\n{text}");
        assert_eq!(cli(text).load_to_ask().unwrap().admin_listen.port(), 9);
        assert!(cli(text).load().is_err(), "{text}");
    }
    let error = cli("admin_listen = \"192.0.2.1:8081\"").load_to_ask().unwrap_err().to_string();
    assert!(error.starts_with("admin_listen is 192.0.2.1:8081, beyond loopback"), "{error}");
}

#[test]
fn a_missing_scripts_folder_is_named_with_what_to_do() {
    let config = Config { scripts_dir: "/nowhere/scripts".into(), ..Config::default() };
    let error = config.check_scripts_dir().unwrap_err().to_string();
    assert!(error.contains("/nowhere/scripts: No such file") && error.contains("--scripts-dir"), "{error}");
}

#[test]
fn a_secret_is_not_shown() {
    let config = Config { secret: Secret("hush".into()), ..Config::default() };
    assert!(!format!("{config:?}").contains("hush"));
    assert!(Config::default().secret.is_default() && !config.secret.is_default());
}

#[test]
fn a_script_setting_that_cannot_be_read_is_not_repeated_and_told_where_commas_may_stand() {
    for given in ["--script-config=key=abc,def", "--script-config=seats={\"a\": 1, \"b\": 2}"] {
        let error = Cli::try_parse_from(["moonring", given]).unwrap_err().to_string();
        assert!(
            error.contains("a setting of script_config is not <name>=<value>; a comma ends a setting here"),
            "{error}"
        );
        assert!(!error.contains("def") && !error.contains("\"b\""), "{error}");
    }
    let cli = Cli::try_parse_from(["moonring", "--script-config=a=1,b=x"]).unwrap();
    assert_eq!(cli.options.script_config.unwrap().len(), 2);
}

#[test]
fn a_recording_that_may_be_larger_than_all_together_is_told_at_the_start() {
    for (record, room_kib, all_mib, expected) in
        [("demo-*", 1024, 1, false), ("demo-*", 1025, 1, true), ("demo-*", 16_384, 8, true), ("", 16_384, 8, false)]
    {
        let record: Vec<String> =
            Some(record).filter(|pattern| !pattern.is_empty()).map(str::to_owned).into_iter().collect();
        let config = Config { record, record_room_kib: room_kib, record_all_mib: all_mib, ..Config::default() };
        config.check().unwrap();
        let words = config.beyond_all_recordings();
        assert_eq!(words.is_some(), expected, "{room_kib} {all_mib}");
        let given = format!("record_room_kib ({room_kib}) is more than record_all_mib ({all_mib}) lets");
        assert!(words.is_none_or(|words| words.starts_with(&given)), "{given}");
    }
}

//! The settings of `health`: flag, variable, default and help of each. The file does not know their
//! values.

use psl::logging;
use psl::process::{BAD_CONFIGURATION, DONE, FAILED};
use psl::settings::{Program, Setting};
pub const HOST: Setting = Setting::flag("--host", "HOST")
    .env(&["PSL_BIND_HOST"])
    .default("all addresses, both families")
    .help("address to bind");
pub const PORT: Setting = Setting::flag("--port", "PORT")
    .env(&["PSL_BIND_PORT"])
    .default("9999")
    .help("port to bind, 0 for any free one");
pub const NODE_NAME: Setting = Setting::flag("--node-name", "NAME")
    .env(&["PSL_NODE_NAME", "NODE_NAME"])
    .default("required")
    .help("name of this node");
pub const BASE_URL: Setting = Setting::flag("--baseUrl", "URL")
    .env(&["PSL_K8S_API_URL"])
    .default("in-cluster")
    .help("URL of the API server");
pub const CA_FILE: Setting = Setting::flag("--ca-file", "FILE")
    .env(&["PSL_K8S_CA_FILE"])
    .default("the service account's")
    .help("CA file (PEM)");
pub const TOKEN_FILE: Setting = Setting::flag("--token-file", "FILE")
    .env(&["PSL_K8S_TOKEN_FILE"])
    .default("the service account's")
    .help("token file");
pub const ENABLED: Setting = Setting::variable(&["PSL_HC_DAEMONSET_ENABLED"], "BOOL")
    .default("true")
    .help("DaemonSets count");
pub const NAMESPACE: Setting = Setting::flag("--namespace", "NAME")
    .env(&["PSL_HC_DAEMONSET_NAMESPACE"])
    .default("all")
    .help("only this namespace");
pub const HOST_NETWORK: Setting = Setting::flag("--hostNet", "BOOL")
    .env(&["PSL_HC_DAEMONSET_HOST_NETWORK"])
    .switch()
    .default("false")
    .help("only hostNetwork: true");
pub const INCLUDE: Setting = Setting::flag("--in", "KEY:VALUE")
    .env(&["PSL_HC_DAEMONSET_INCLUDE_LABELS"])
    .list()
    .help("only with all these labels");
pub const EXCLUDE: Setting = Setting::flag("--ex", "KEY:VALUE")
    .env(&["PSL_HC_DAEMONSET_EXCLUDE_LABELS"])
    .list()
    .help("not with any of these labels");
pub const FAIL_PERIOD: Setting = Setting::flag("--failHc", "DURATION")
    .env(&["PSL_HC_DAEMONSET_PERIOD_FAIL"])
    .default("10s")
    .help("pause after a failure");
pub const PASS_PERIOD: Setting = Setting::flag("--passHc", "DURATION")
    .env(&["PSL_HC_DAEMONSET_PERIOD_PASS"])
    .default("60s")
    .help("pause while healthy");
pub const LATCH: Setting = Setting::flag("--latch", "WHEN")
    .env(&["PSL_LATCH"])
    .default("off")
    .help("boot: DaemonSets count until healthy once");
pub const CONDITIONS: Setting = Setting::flag("--conditions", "BOOL")
    .env(&["PSL_HC_NODE_CONDITIONS"])
    .switch()
    .default("true")
    .help("node conditions count");
pub const BOOT_CHECK: Setting = Setting::flag("--boot-check", "WHEN")
    .env(&["PSL_BOOT_CHECK"])
    .default("auto")
    .help("readiness of this boot: on, off, auto");
pub const BOOT_GRACE: Setting = Setting::flag("--boot-grace", "DURATION")
    .env(&["PSL_BOOT_GRACE"])
    .default("5m")
    .help("uptime after which old readiness counts");
pub const STALE_AFTER: Setting = Setting::flag("--stale-after", "DURATION")
    .env(&["PSL_STALE_AFTER"])
    .default("5m")
    .help("how long a verdict outlives the API");
pub const LOAD_ENABLED: Setting = Setting::variable(&["PSL_HC_NODELOAD_ENABLED"], "BOOL")
    .default("false")
    .help("the node's CPU usage counts (metrics.k8s.io)");
pub const LOAD_THRESHOLD: Setting =
    Setting::variable(&["PSL_HC_NODELOAD_CPU_THRESHOLD"], "PERCENT")
        .default("80")
        .help("unhealthy at this CPU usage, until 10 below");
pub const LOAD_PERIOD: Setting = Setting::variable(&["PSL_HC_NODELOAD_PERIOD"], "DURATION")
    .default("10s")
    .help("pause between two measurements");

/// Kubernetes sets these two in every container, so they are not settings of the program.
pub const SERVICE_HOST: Setting = Setting::variable(&["KUBERNETES_SERVICE_HOST"], "HOST");
pub const SERVICE_PORT: Setting = Setting::variable(&["KUBERNETES_SERVICE_PORT"], "PORT");
pub const PROGRAM: Program = Program {
    name: "health",
    purpose: "Tells a lock whether its node and the DaemonSets on it are up: 200 or 412.",
    settings: &[
        HOST,
        PORT,
        NODE_NAME,
        BASE_URL,
        CA_FILE,
        TOKEN_FILE,
        ENABLED,
        NAMESPACE,
        HOST_NETWORK,
        INCLUDE,
        EXCLUDE,
        FAIL_PERIOD,
        PASS_PERIOD,
        LATCH,
        CONDITIONS,
        BOOT_CHECK,
        BOOT_GRACE,
        STALE_AFTER,
        LOAD_ENABLED,
        LOAD_THRESHOLD,
        LOAD_PERIOD,
        logging::LOG_FORMAT,
        logging::LOG,
    ],
    exit_codes: &[
        (DONE, "ended by SIGTERM or SIGINT"),
        (FAILED, "cannot serve, e.g. cannot bind its port"),
        (BAD_CONFIGURATION, "bad configuration"),
    ],
    notes: "In a pod, KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT give the API server; its CA and the\n\
            token are in /var/run/secrets/kubernetes.io/serviceaccount.\n",
};

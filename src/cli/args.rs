//! What the command line accepts: liboci-cli's commands, and the differences to runc.

use std::path::PathBuf;
use std::sync::LazyLock;

use clap::{Parser, Subcommand};

use crate::config::Sources;
use crate::image::wasm::Artifact;

/// Runs WebAssembly and Linux containers as the OCI runtime specification describes.
#[derive(Parser, Debug)]
#[command(name = "runwasm", version = VERSION.as_str())]
pub struct Arguments {
    /// Options of all commands.
    #[command(flatten)]
    pub global: Global,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// The options of all commands.
#[derive(clap::Args, Debug)]
pub struct Global {
    /// Those of runc.
    #[command(flatten)]
    pub oci: liboci_cli::GlobalOpts,
    /// Where settings come from.
    #[command(flatten)]
    pub sources: Sources,
    /// Where the program may be, if the root file system has it not.
    #[command(flatten)]
    pub image: Image,
}

/// Internal: what the shim knows of the container's image.
#[derive(clap::Args, Debug)]
pub struct Image {
    #[arg(long, hide = true, requires = "image_digest")]
    image_store: Option<PathBuf>,
    #[arg(long, hide = true, requires = "image_store")]
    image_digest: Option<String>,
}

impl Image {
    /// The image, if the options name one.
    pub fn artifact(&self) -> Option<Artifact> {
        let (store, digest) = (self.image_store.clone()?, self.image_digest.clone()?);
        Some(Artifact { store, digest })
    }
}

/// Engines show this beside the name; `spec:` is a line that runc has too.
static VERSION: LazyLock<String> = LazyLock::new(|| {
    format!(
        "version {}\nspec: {}\nwasmtime: {}",
        env!("CARGO_PKG_VERSION"),
        oci_spec::runtime::VERSION,
        crate::wasm::engine::WASMTIME_VERSION
    )
});

impl Command {
    /// How many descriptors from 3 on the container's program inherits.
    pub fn preserved_fds(&self) -> i32 {
        match self {
            Self::Create(options) => options.preserve_fds,
            Self::Run(options) => options.preserve_fds,
            Self::Exec(options) => options.preserve_fds,
            _ => 0,
        }
    }
}

/// The global options alone, to know where an error about the rest goes.
#[derive(Parser, Debug)]
#[command(disable_help_flag = true)]
pub struct GlobalOnly {
    /// Options of all commands.
    #[command(flatten)]
    pub global: Global,
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    _rest: Vec<std::ffi::OsString>,
}

/// The commands of runc.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Create a container
    Create(liboci_cli::Create),
    /// Start a created container
    Start(liboci_cli::Start),
    /// Show the state of a container
    State(liboci_cli::State),
    /// Send a signal to a container
    Kill(Kill),
    /// Delete a container
    Delete(liboci_cli::Delete),
    /// Create, start and wait for a container
    Run(liboci_cli::Run),
    /// Run a process in a running container
    Exec(liboci_cli::Exec),
    /// List containers
    List(liboci_cli::List),
    /// Show the processes of a container
    Ps(liboci_cli::Ps),
    /// Freeze a container
    Pause(liboci_cli::Pause),
    /// Thaw a container
    Resume(liboci_cli::Resume),
    /// Change the resource limits of a container
    Update(liboci_cli::Update),
    /// Show the resource use of a container
    Events(liboci_cli::Events),
    /// Show what this runtime supports, as JSON
    Features(liboci_cli::Features),
    /// Write a default config.json
    Spec(liboci_cli::Spec),
    /// Show and change the compile cache
    #[command(subcommand)]
    Cache(super::cache::Command),
    /// Make an image of a WebAssembly file
    Image(super::image::MakeImage),
    /// Show what a WebAssembly file, or those of an image, need and whether they run here
    Inspect(super::inspect::Inspect),
    /// Not supported
    Checkpoint(Unsupported),
    /// Not supported
    Restore(Unsupported),
    /// Internal: compile the module on standard input.
    #[command(name = crate::wasm::compile::COMMAND, hide = true)]
    CompileModule {
        /// The most memory, in bytes.
        memory: u64,
        /// The most processor time, in seconds.
        time: u64,
    },
    /// Internal: the hook that brings the loopback interface up.
    #[command(name = crate::container::network::LOOPBACK_COMMAND, hide = true)]
    LoopbackUp,
    /// Internal: the hook that makes mounts private.
    #[command(name = crate::container::propagation::PRIVATE_COMMAND, hide = true)]
    MakePrivate {
        /// Where.
        path: PathBuf,
    },
    /// Internal: the hook that sets kernel parameters for a wasm container.
    #[command(name = crate::container::without_proc::SYSCTL_COMMAND, hide = true)]
    SetSysctls {
        /// Each `name=value`.
        parameters: Vec<String>,
    },
}

/// As liboci-cli's, which lacks runc's default signal.
#[derive(clap::Args, Debug)]
pub struct Kill {
    /// Container identifier
    #[arg(value_parser = clap::builder::NonEmptyStringValueParser::new(), required = true)]
    pub container_id: String,
    /// Signal to send to the container (e.g. KILL, TERM, 9)
    #[arg(default_value = "TERM")]
    pub signal: String,
    /// Send the signal to all processes inside the container
    #[arg(short, long)]
    pub all: bool,
}

/// Any arguments, so that the answer is "not supported" and not a complaint about a flag.
#[derive(clap::Args, Debug)]
pub struct Unsupported {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    _arguments: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        <Arguments as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn global_options_come_before_the_command_as_engines_write_them() {
        let line = "runwasm --root /r --log /l --log-format json --systemd-cgroup kill --all c 9";
        let arguments = Arguments::try_parse_from(line.split(' ')).unwrap();
        assert!(arguments.global.oci.systemd_cgroup);
        assert!(matches!(arguments.command, Command::Kill(kill) if kill.all && kill.signal == "9"));
    }

    #[test]
    fn checkpoint_takes_any_flags() {
        let line = ["runwasm", "checkpoint", "--image-path", "/x", "c"];
        assert!(Arguments::try_parse_from(line).is_ok());
    }
}

//! The `rhio` program.

#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use rhio::cli::{Cli, Command};
use rhio::config::{self, Loaded};
use rhio::control::show;
use rhio::identity::{self, IdentityError};
use rhio::logging::{self, LogFilter};
use rhio::{app, check};

/// The configuration is wrong, nothing was started. Also what clap uses for a wrong command line.
const WRONG_CONFIGURATION: u8 = 2;

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Some(Command::Keygen { path: Some(path) }) = &cli.command {
        return show_key(identity::generate(path));
    }
    let loaded = match config::load(&cli.options.overrides(), &config::environment()) {
        Ok(loaded) => loaded,
        Err(error) => {
            error.problems().iter().for_each(|problem| eprintln!("error: {problem}"));
            return ExitCode::from(WRONG_CONFIGURATION);
        }
    };
    match cli.command {
        Some(Command::Keygen { .. }) => show_key(identity::generate(&loaded.config.private_key_path)),
        Some(Command::Id) => show_key(identity::load(&loaded.config.private_key_path)),
        Some(Command::Check { json }) => wait_for(check::run(loaded, json)),
        Some(Command::Status(args)) => wait_for(show::run(loaded.config, args.wish())),
        None => run(loaded, cli.options.overrides()),
    }
}

/// Runs a command that asks others.
fn wait_for(command: impl Future<Output = ExitCode>) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    let code = runtime.block_on(command);
    // Tasks of libraries may still sit in a system call.
    runtime.shutdown_timeout(Duration::from_millis(200));
    code
}

fn show_key(identity: Result<identity::Identity, IdentityError>) -> ExitCode {
    match identity {
        Ok(identity) => {
            if let Some(warning) = &identity.warning {
                eprintln!("warning: {warning}");
            }
            println!("{}", identity.public_key());
            ExitCode::SUCCESS
        }
        Err(error) => failed(&error),
    }
}

fn failed(error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("error: {error}");
    ExitCode::FAILURE
}

fn run(loaded: Loaded, overrides: config::Overrides) -> ExitCode {
    let filter = match LogFilter::parse(&loaded.config.log_level) {
        Ok(filter) => filter,
        Err(error) => return failed(&error),
    };
    if let Err(error) = logging::init(&filter, loaded.config.log_format) {
        return failed(&error);
    }
    let identity = match identity::load_or_generate(&loaded.config.private_key_path) {
        Ok(identity) => identity,
        Err(error) => return failed(&error),
    };
    loaded.warnings.iter().chain(&identity.warning).for_each(|warning| tracing::warn!("{warning}"));
    if identity.generated {
        tracing::info!(path = %identity.path.display(), "generated a new private key");
    }
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "rhio starts");
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    let outcome = runtime.block_on(app::run(loaded, overrides, identity.signing_key().clone()));
    // Tasks of libraries may still sit in a system call.
    runtime.shutdown_timeout(Duration::from_millis(500));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

//! Runs what the command line asks for, in named steps, and says how the process ends.

use std::{
    io::{self, IsTerminal as _, Write as _},
    path::{Path, PathBuf},
};

use clap::CommandFactory as _;
use rustix::process::{Resource, Rlimit, setrlimit};
use zeroize::Zeroizing;

use crate::{
    cli::{Cli, ClientArgs, Common, Role, TrackerArgs},
    console::{Input, Signals, Terminal, stdin_lines},
    exit::ExitStatus,
    protocol::{
        error::{ErrorCode, Failure},
        ids::device_key_text,
    },
    roles::{
        bench,
        client::{
            Client, ClientConfig,
            command::{
                Command,
                parse::{Line, parse},
                words::split_commands,
            },
            output::clean::clean,
            shell::{self, ShellOptions},
        },
        demo,
        environment::Environment,
        tracker::{Limits, PasswordCost, Tracker, TrackerConfig, public_key},
    },
    telemetry::{self, LogTarget},
};

/// The variable that may hold the password for `--login`.
const PASSWORD_VARIABLE: &str = "P2P_PASSWORD";

/// What every role is given beside its own arguments.
struct Context {
    common: Common,
    terminal: Terminal,
    logs: LogTarget,
}

/// Runs the role asked for, to its end.
pub fn run(cli: Cli) -> ExitStatus {
    let terminal = Terminal::detect(cli.common.color);
    let outcome = LogTarget::open(cli.common.log_file.as_ref()).and_then(|logs| {
        start_log(&cli, terminal, &logs);
        run_role(cli.role, &Context { common: cli.common, terminal, logs })
    });
    outcome.unwrap_or_else(|failure| refuse(&failure))
}

fn start_log(cli: &Cli, terminal: Terminal, logs: &LogTarget) {
    let default = if matches!(cli.role, Role::Tracker(_)) { "info" } else { "error" };
    let filter = cli.common.log.clone().unwrap_or_else(|| default.parse().expect("the default is a level"));
    let colour = terminal.errors_colour && cli.common.log_file.is_none();
    telemetry::start(filter, cli.common.log_format, logs, colour);
}

fn run_role(role: Role, context: &Context) -> Result<ExitStatus, Failure> {
    match role {
        Role::Tracker(args) => {
            keep_secrets_in_memory();
            on_runtime(run_tracker(args, context))
        }
        Role::Client(args) => {
            keep_secrets_in_memory();
            p2p_malloc_arenas::keep_one();
            on_runtime(run_client(*args, context))
        }
        Role::Bench { scenario } => on_runtime(run_bench(scenario)),
        Role::Demo(args) => on_runtime(demo::run(args.file, context.terminal)),
        Role::Completions { shell } => print(|out| {
            clap_complete::generate(shell, &mut Cli::command(), "p2p", out);
            Ok(())
        }),
        Role::Man => print(man_pages),
    }
}

/// Passwords and keys reach no core file, and no other process of this user reads them out. Best effort: some systems cannot.
fn keep_secrets_in_memory() {
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
}

/// Runs a role's future; threads that still wait for standard input do not hold up the end.
fn on_runtime(role: impl Future<Output = Result<ExitStatus, Failure>>) -> Result<ExitStatus, Failure> {
    let runtime = tokio::runtime::Runtime::new().map_err(|error| system_failure("start", &error))?;
    let outcome = runtime.block_on(role);
    runtime.shutdown_background();
    outcome
}

async fn run_tracker(args: TrackerArgs, context: &Context) -> Result<ExitStatus, Failure> {
    let no = args.no;
    let data_dir = data_dir(&context.common, &format!("tracker-{no}"))?;
    let bind = args.bind.map(|address| address.to_string());
    let metrics = args.metrics.map(|address| address.to_string());
    let password_cost = PasswordCost::OWASP;
    let limits = if args.no_limits { Limits::NONE } else { Limits::STANDARD };
    let (info, readmit) = (args.trackers, args.readmit);
    let config = TrackerConfig { info, no, data_dir, bind, metrics, readmit, password_cost, limits };
    if args.show_key {
        let key = device_key_text(&public_key(&system()?, &config).await?);
        return quiet_when_nobody_reads(say(&(key + "\n")).map(|()| ExitStatus::Ok));
    }
    let tracker = Tracker::start(system()?, config).await?;
    let (address, key) = (tracker.address(), device_key_text(&tracker.key()));
    let told = say(&format!("Tracker {no} listens at {address} with key {key}. Type quit to stop it.\n"));
    let ended = tokio::select! {
        biased;
        ended = tracker.ended() => ended,
        stopped = told_to_stop() => stopped,
    };
    let told = told.and_then(|()| say(&format!("Tracker {no} stops.\n")));
    tracker.stop().await;
    ended?;
    quiet_when_nobody_reads(told.map(|()| ExitStatus::Ok))
}

/// Waits for `quit` or a signal; the end of standard input is neither.
async fn told_to_stop() -> Result<(), Failure> {
    let mut signals = Signals::listen().map_err(|error| system_failure("listen for signals", &error))?;
    let mut lines = stdin_lines();
    loop {
        tokio::select! {
            biased;
            _ = signals.next() => return Ok(()),
            Some(input) = lines.recv() => {
                if let Input::Line(line) = input && matches!(line.trim(), "quit" | "exit") {
                    return Ok(());
                }
            }
        }
    }
}

async fn run_client(args: ClientArgs, context: &Context) -> Result<ExitStatus, Failure> {
    let address = args.address;
    let data_dir = data_dir(&context.common, &format!("client-{}-{}", address.ip(), address.port()))?;
    warn_of_passwords(&args.commands);
    let options = shell_options(&args, &data_dir, context.terminal)?;
    let client = Client::start(system()?, client_config(args, data_dir)).await?;
    let status = shell::run(&client, options, &context.logs).await;
    client.stop().await;
    quiet_when_nobody_reads(status)
}

fn client_config(args: ClientArgs, data_dir: PathBuf) -> ClientConfig {
    ClientConfig {
        listen: args.address.to_string(),
        advertise: args.advertise.map(|address| address.to_string()),
        trackers: args.trackers.trackers,
        readmit: args.readmit,
        data_dir,
        download_limit: args.download_limit,
        upload_limit: args.upload_limit,
        max_peers: usize::from(args.max_peers),
    }
}

fn shell_options(args: &ClientArgs, data_dir: &Path, terminal: Terminal) -> Result<ShellOptions, Failure> {
    let login = match args.login.clone() {
        Some(user) => Some((user, login_password(args.password_file.as_deref(), terminal)?)),
        None => None,
    };
    Ok(ShellOptions {
        commands: args.commands.clone(),
        json: args.json,
        stay: args.stay,
        login,
        history: data_dir.join("history"),
        terminal,
    })
}

/// The password for `--login`; `None` when it is to be asked for.
fn login_password(file: Option<&Path>, terminal: Terminal) -> Result<Option<Zeroizing<String>>, Failure> {
    if let Some(path) = file {
        let unreadable = |error| {
            let message = format!("The password file {} cannot be read: {error}.", path.display());
            Failure::new(ErrorCode::Usage, message)
        };
        warn_of_readers(path);
        #[expect(clippy::disallowed_methods, reason = "arguments are read before any role runs")]
        let text = Zeroizing::new(std::fs::read_to_string(path).map_err(unreadable)?);
        return Ok(Some(Zeroizing::new(text.lines().next().unwrap_or_default().to_owned())));
    }
    match std::env::var(PASSWORD_VARIABLE) {
        Ok(password) => Ok(Some(Zeroizing::new(password))),
        Err(_) if terminal.input => Ok(None),
        Err(_) => Err(Failure::new(
            ErrorCode::Usage,
            format!("--login needs a password: give --password-file, or set {PASSWORD_VARIABLE}."),
        )),
    }
}

/// Says so when a file with a password is open to other users.
fn warn_of_readers(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    #[expect(clippy::disallowed_methods, reason = "arguments are read before any role runs")]
    let mode = std::fs::metadata(path).map_or(0, |metadata| metadata.permissions().mode());
    if mode & 0o077 != 0 {
        let path = path.display().to_string();
        warn(&format!("the password file {path} can be read by other users: chmod 600 {path}"));
    }
}

/// Arguments are shown to every user of this machine. Scripts may know that; a person at a terminal is told.
fn warn_of_passwords(commands: &[String]) {
    let shows_password = |line: &str| {
        let command = parse(line).map(|parsed| parsed.line);
        matches!(
            command,
            Some(Ok(Line::Run(
                Command::Login { .. }
                    | Command::CreateUser { .. }
                    | Command::ChangePassword { .. }
                    | Command::CloseAccount { .. }
            )))
        )
    };
    let mut lines = commands.iter().flat_map(|text| split_commands(text, &[';', '\n']));
    if io::stderr().is_terminal() && lines.any(shows_password) {
        warn("a password in the arguments is seen by all users of this machine: use --login with --password-file");
    }
}

fn warn(text: &str) {
    // Without standard error there is nobody to warn.
    let _ = writeln!(io::stderr(), "warning: {}", clean(text));
}

async fn run_bench(scenario: bench::Scenario) -> Result<ExitStatus, Failure> {
    match bench::run(scenario).await {
        Ok(true) => Ok(ExitStatus::Ok),
        Ok(false) => Ok(ExitStatus::Failed),
        Err(error) => Err(Failure::new(ErrorCode::Io, error.to_string())),
    }
}

/// Where a process keeps its state, unless it is told otherwise.
fn data_dir(common: &Common, name: &str) -> Result<PathBuf, Failure> {
    if let Some(dir) = &common.data_dir {
        return Ok(dir.clone());
    }
    let base = directories::BaseDirs::new().ok_or_else(|| {
        Failure::new(ErrorCode::Usage, "There is no home folder to keep state in. Name a folder with --data-dir.")
    })?;
    let state = base.state_dir().unwrap_or_else(|| base.data_local_dir());
    Ok(state.join("p2p").join(name))
}

fn system() -> Result<Environment, Failure> {
    Environment::system().map_err(|error| system_failure("start", &error))
}

fn system_failure(what: &str, error: &io::Error) -> Failure {
    Failure::new(ErrorCode::Io, format!("Cannot {what}: {error}."))
}

fn print(render: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> Result<ExitStatus, Failure> {
    let mut text = Vec::new();
    let printed = render(&mut text).and_then(|()| io::stdout().lock().write_all(&text));
    quiet_when_nobody_reads(printed.map(|()| ExitStatus::Ok))
}

/// The page of the program, and one of each of its commands.
fn man_pages(out: &mut Vec<u8>) -> io::Result<()> {
    let mut program = Cli::command();
    program.build();
    clap_mangen::Man::new(program.clone()).render(out)?;
    let commands = program.get_subcommands().filter(|command| command.get_name() != "help");
    commands.cloned().try_for_each(|command| clap_mangen::Man::new(command).render(out))
}

fn say(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// A reader that has had enough is no failure.
fn quiet_when_nobody_reads(outcome: io::Result<ExitStatus>) -> Result<ExitStatus, Failure> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitStatus::Ok),
        outcome => outcome.map_err(|error| system_failure("write the answer", &error)),
    }
}

/// Tells why nothing could be run.
fn refuse(failure: &Failure) -> ExitStatus {
    // Without standard error there is nobody to tell.
    let _ = writeln!(io::stderr(), "error[{}]: {}", failure.code, clean(&failure.message));
    if failure.code == ErrorCode::Usage { ExitStatus::Usage } else { ExitStatus::Failed }
}

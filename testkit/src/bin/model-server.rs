//! The local model server as a program of its own.

use std::process::ExitCode;

use toolpool_testkit::model_server::ModelServer;

const HELP: &str = "\
model-server: a local language model that speaks the OpenAI chat protocol and answers by formula

USAGE
  model-server [--port PORT] [--delay MILLISECONDS]

It prints \"listening http://127.0.0.1:PORT/v1\" and serves until it is killed. The default port is any free one.
";

#[tokio::main]
async fn main() -> ExitCode {
    let mut builder = ModelServer::builder();
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let number = |value: Option<String>| value.and_then(|value| value.parse::<u16>().ok());
        builder = match arg.as_str() {
            "--help" | "-h" => {
                print!("{HELP}");
                return ExitCode::SUCCESS;
            }
            "--port" | "--delay" => match number(args.next()) {
                Some(port) if arg == "--port" => builder.port(port),
                Some(delay) => builder.delay(std::time::Duration::from_millis(delay.into())),
                None => {
                    return complain(&format!("{arg} needs a number from 0 to 65535; see --help"));
                }
            },
            other => return complain(&format!("unknown option {other}; see --help")),
        };
    }
    match builder.start() {
        Ok(server) => {
            println!("listening {}", server.base_url());
            std::future::pending().await
        }
        Err(error) => complain(&format!(
            "cannot listen on 127.0.0.1: {error}; choose another --port, or none"
        )),
    }
}

fn complain(problem: &str) -> ExitCode {
    eprintln!("model-server: {problem}");
    ExitCode::from(64)
}

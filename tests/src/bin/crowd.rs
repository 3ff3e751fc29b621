// SPDX-License-Identifier: Apache-2.0
//! A part of a crowd as a process, because a process has only so many sockets: `serve PORT`, or
//! `dial TARGET COUNT ADDR...`. Whoever dials answers each line of its input with the number of
//! connections that carry data; both end with their input.

use std::io::{BufRead, Write, stdin, stdout};

use anyhow::{Context, Result, bail};
use pintle_tests::crowd::{Crowd, serve};

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["serve", port] => {
            let port = port.parse()?;
            std::thread::spawn(move || serve(port).expect("serve"));
            say("ready")?;
            stdin().lock().lines().for_each(drop);
            Ok(())
        }
        ["dial", target, count, ref from @ ..] => {
            let from = from.iter().map(|ip| ip.parse()).collect::<Result<Vec<_>, _>>()?;
            let mut crowd = Crowd::open(&from, target.parse()?, count.parse()?);
            say(&format!("{} {}", crowd.open_connections(), crowd.failures()))?;
            for _ in stdin().lock().lines() {
                say(&crowd.talk().to_string())?;
            }
            Ok(())
        }
        _ => bail!("crowd serve PORT | crowd dial TARGET COUNT ADDR..."),
    }
}

/// Writes a line, which the test waits for.
fn say(line: &str) -> Result<()> {
    writeln!(stdout(), "{line}").and_then(|()| stdout().flush()).context("say")
}

// SPDX-License-Identifier: Apache-2.0
//! Builds the folders of `manifests`, and compares with what kubectl builds where it is installed.
//! `cargo xtask test lint` runs it.

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use pintle_tests::kustomize::{FOLDERS, build, documents, in_order, manifests, same};
use serde_json::{Value, json};

fn main() -> ExitCode {
    let has_kubectl = Command::new("kubectl").args(["version", "--client"]).output();
    let has_kubectl = has_kubectl.is_ok_and(|output| output.status.success());
    let mut code = ExitCode::SUCCESS;
    for folder in FOLDERS {
        match check(&manifests().join(folder), has_kubectl) {
            Ok(line) => println!("manifests/{folder}: {line}"),
            Err(error) => {
                println!("manifests/{folder}: {error:#}");
                code = ExitCode::FAILURE;
            }
        }
    }
    if !has_kubectl {
        println!("kubectl is not installed: manifests are built by our own kustomize only");
    }
    code
}

fn check(folder: &Path, with_kubectl: bool) -> Result<String> {
    let ours = in_order(build(folder)?);
    let count = ours.len();
    if !with_kubectl {
        return Ok(format!("{count} objects"));
    }
    let theirs = in_order(kubectl(folder)?);
    ensure!(theirs.len() == count, "{count} objects, kubectl builds {}", theirs.len());
    same(&json!(ours), &json!(theirs)).context("kubectl builds something else")?;
    Ok(format!("{count} objects, as kubectl builds them"))
}

fn kubectl(folder: &Path) -> Result<Vec<Value>> {
    let output = Command::new("kubectl").arg("kustomize").arg(folder).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    documents(&String::from_utf8(output.stdout)?)
}

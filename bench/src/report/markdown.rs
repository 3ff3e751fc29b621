// SPDX-License-Identifier: Apache-2.0
//! A run as Markdown, for README and docs.

use std::fmt::Write as _;

use super::detail::{Detail, HEADS};
use super::matrix::Matrix;
use super::table;
use crate::compare::record::Run;
use crate::compare::workload::Workload;

/// What `docs/benchmarks.md` says.
pub fn document(run: &Run) -> String {
    let mut out = String::from("# Benchmarks\n\n");
    let _ = writeln!(
        out,
        "Made by `pintle bench report --markdown` from `docs/benchmarks.json`, which `{}` has measured.\n",
        run.command
    );
    out += METHOD;
    out += "\n## Ratios to direct\n\n";
    out += &matrix(run);
    for workload in run.workloads() {
        section(&mut out, run, workload);
    }
    machine(&mut out, run);
    out
}

const METHOD: &str = "\
Every world is a node of its own in network namespaces, with the same pods: *direct* dials a pod's address, by the node's routes and with no
hook anywhere; the others dial a service. `@N` is the number of services, the measured one is the last; `+conntrack` are kube-proxy's fixed
rules, which track every connection, beside. kube-proxy's rules come from generators that are tested against what a real kube-proxy writes.

Clients and servers share one CPU, in a closed loop; everything else keeps off it. All worlds are alive at once and take turns of 4 ms. What
is told is the ratio of medians within an epoch of one second; the median over epochs is one build's ratio; worlds are torn down and built again, and the
interval is Student's over builds. \"same\" stands where one is inside the interval: no difference to direct was found.
Packets: 64-byte datagrams from `BPF_PROG_TEST_RUN` in live mode inside the client's pod; CPU time of the sending thread and of `ksoftirqd`.

Compare only what ran in one run. Ratios travel between machines far better than microseconds.
";

/// The matrix, with what it means below.
pub fn matrix(run: &Run) -> String {
    let Matrix { workloads, direct_us, lines } = Matrix::of(run);
    let mut out = String::from("| world |");
    workloads.iter().for_each(|workload| {
        let _ = write!(out, " {} |", workload.title());
    });
    let _ = write!(out, "\n|---|{}\n| *direct, µs* |", "---:|".repeat(workloads.len()));
    direct_us.iter().for_each(|us| {
        let _ = write!(out, " *{us:.2}* |");
    });
    out.push('\n');
    for (world, cells) in lines {
        let _ = write!(out, "| {world} |");
        for cell in cells {
            let _ = match cell {
                Some(cell) if cell.misses_target => write!(out, " **{}** |", cell.text),
                Some(cell) => write!(out, " {} |", cell.text),
                None => write!(out, " |"),
            };
        }
        out.push('\n');
    }
    out + "\n" + &table::explanation(run).replace("\"!\"", "bold")
}

fn section(out: &mut String, run: &Run, workload: Workload) {
    let _ = write!(
        out,
        "\n## `{}`: {}\n\n| {} |\n|---|{}\n",
        workload.name(),
        workload.title(),
        HEADS.join(" | "),
        "---:|".repeat(HEADS.len() - 1)
    );
    for row in run.worlds.iter().filter_map(|world| run.row(workload, &world.name)) {
        let cells = Detail::of(run, row).cells();
        let _ = writeln!(out, "| {} |", cells.join(" | "));
    }
}

fn machine(out: &mut String, run: &Run) {
    *out += "\n## Machine\n\n";
    for (name, value) in run.machine.facts() {
        let _ = writeln!(out, "- {name}: {value}");
    }
    let _ = writeln!(out, "- Pintle: {}", run.version);
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    /// Runs that are kept, and the command between whose marks README has their matrix.
    const KEPT: [(&str, &str); 2] = [
        ("docs/benchmarks.json", "pintle bench"),
        ("docs/benchmarks-vm.json", "cargo xtask bench vm"),
    ];

    /// `UPDATE_GOLDEN=1` writes them anew.
    #[test]
    fn the_documents_show_the_runs_that_are_kept() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let update = std::env::var_os("UPDATE_GOLDEN").is_some();
        let read = |name: &str| fs::read_to_string(root.join(name)).unwrap();
        let write = |name: &str, text: String| fs::write(root.join(name), text).unwrap();
        for (kept, command) in KEPT {
            let run: Run = serde_json::from_str(&read(kept)).unwrap();
            let readme = read("README.md");
            let find = |mark: String| readme.find(&mark).unwrap_or_else(|| panic!("no {mark}"));
            let start = find(format!("<!-- {command} -->\n")) + command.len() + "<!--  -->\n".len();
            let end = find(format!("<!-- /{command} -->"));
            if update {
                let whole = [&readme[..start], &matrix(&run), &readme[end..]].concat();
                write("README.md", whole);
            }
            assert!(update || readme[start..end] == matrix(&run), "README.md is not of {kept}");
        }
        let run: Run = serde_json::from_str(&read(KEPT[0].0)).unwrap();
        if update {
            write("docs/benchmarks.md", document(&run));
        }
        assert_eq!(read("docs/benchmarks.md"), document(&run), "not of {}", KEPT[0].0);
    }
}

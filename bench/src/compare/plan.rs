// SPDX-License-Identifier: Apache-2.0
//! From the command line to what is built and measured.

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use super::workload::Workload;
use super::world::{DataPath, World};

/// How much is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Extent {
    /// Ends in five minutes.
    Quick,
    /// What is said otherwise.
    Usual,
    /// For publication.
    Full,
}

/// What to compare.
#[derive(Clone, Debug, Args)]
pub struct Arguments {
    /// Five minutes: with 1 and 5,000 services
    #[arg(long, conflicts_with = "full")]
    quick: bool,
    /// More than half an hour: with 1 to 30,000 services, five builds
    #[arg(long)]
    full: bool,
    /// Only these data paths; direct is always there
    #[arg(long, value_enum, value_delimiter = ',', value_name = "NAME,...")]
    data_paths: Vec<DataPath>,
    /// Only these workloads
    #[arg(long, value_enum, value_delimiter = ',', value_name = "NAME,...")]
    workloads: Vec<Workload>,
    /// With so many services
    #[arg(long, value_delimiter = ',', value_name = "N,...",
          value_parser = clap::value_parser!(u32).range(1..=100_000))]
    services: Vec<u32>,
    /// How often the worlds are built; an interval needs two
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=50))]
    rebuilds: Option<u32>,
    /// Seconds of each workload in each build, over all worlds
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: Option<u32>,
}

/// A world that is not measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// Its name.
    pub world: String,
    /// Why.
    pub reason: String,
}

/// What is built and measured.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How much.
    pub extent: Extent,
    /// The worlds, direct first.
    pub worlds: Vec<World>,
    /// The worlds that are not there.
    pub skipped: Vec<Skipped>,
    /// What clients do.
    pub workloads: Vec<Workload>,
    /// How often the worlds are built.
    pub rebuilds: u32,
    /// Seconds of each workload in each build.
    pub seconds: u32,
}

impl Arguments {
    /// What they ask for, on a machine where some data paths may be missing.
    pub fn plan(&self, obstacle: impl Fn(DataPath) -> Option<String>) -> Result<Plan> {
        let extent = match (self.quick, self.full) {
            (true, _) => Extent::Quick,
            (_, true) => Extent::Full,
            _ => Extent::Usual,
        };
        let (services, rebuilds, seconds) = match extent {
            Extent::Quick => (&[1, 5_000][..], 3, 3),
            Extent::Usual => (&[1, 1_000, 10_000][..], 3, 5),
            Extent::Full => (&[1, 100, 1_000, 5_000, 10_000, 30_000][..], 5, 5),
        };
        let mut services =
            if self.services.is_empty() { services.to_vec() } else { self.services.clone() };
        services.sort_unstable();
        services.dedup();
        let mut plan = Plan {
            extent,
            worlds: vec![World::DIRECT],
            skipped: Vec::new(),
            workloads: chosen(&self.workloads),
            rebuilds: self.rebuilds.unwrap_or(rebuilds),
            seconds: self.seconds.unwrap_or(seconds),
        };
        let mut missing = false;
        for path in chosen(&self.data_paths) {
            if let Some(reason) = obstacle(path) {
                // What was asked for by name is not left out in silence.
                missing |= self.data_paths.contains(&path);
                plan.skipped.push(Skipped { world: path.name(), reason });
                continue;
            }
            plan.add(path, &services);
        }
        let reasons: Vec<String> = plan.skipped.iter().map(Skipped::text).collect();
        ensure!(!missing, "not on this machine: {}", reasons.join("; "));
        Ok(plan)
    }
}

impl Plan {
    fn add(&mut self, path: DataPath, services: &[u32]) {
        let with_rules = |services| World { path, services, conntrack: true };
        if path == DataPath::Direct {
            self.worlds.push(with_rules(0));
            return;
        }
        for services in services.iter().copied() {
            let world = World { path, services, conntrack: false };
            match path.too_many(services) {
                Some(reason) => self.skipped.push(Skipped { world: world.name(), reason }),
                None => self.worlds.push(world),
            }
        }
        // What others do without rules that track connections, they do with them, too: their own.
        if path.is_pintle() {
            self.worlds.push(with_rules(services[0]));
        }
    }
}

impl Skipped {
    /// In words.
    pub fn text(&self) -> String {
        format!("{}: {}", self.world, self.reason)
    }
}

/// Those that were asked for, or all.
fn chosen<T: ValueEnum + PartialEq + Clone>(asked: &[T]) -> Vec<T> {
    let all = T::value_variants().iter();
    all.filter(|value| asked.is_empty() || asked.contains(value)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn arguments(line: &[&str]) -> Arguments {
        Line::try_parse_from([&["bench"], line].concat()).unwrap().arguments
    }

    fn names(plan: &Plan) -> Vec<String> {
        plan.worlds.iter().map(World::name).collect()
    }

    #[test]
    fn direct_is_always_first_and_ours_are_also_measured_beside_tracking_rules() {
        let plan = arguments(&["--data-paths=pintle", "--services=10,1"]).plan(|_| None).unwrap();
        assert_eq!(names(&plan), ["direct", "pintle@1", "pintle@10", "pintle@1+conntrack"]);
        assert_eq!(plan.workloads, Workload::value_variants());
    }

    #[test]
    fn what_the_machine_lacks_is_left_out_and_told() {
        let no_ipvs = |path| (path == DataPath::Ipvs).then(|| "no module".to_owned());
        let plan = arguments(&["--quick"]).plan(no_ipvs).unwrap();
        assert!(!names(&plan).iter().any(|name| name.starts_with("ipvs")));
        let skipped: Vec<String> = plan.skipped.iter().map(Skipped::text).collect();
        assert_eq!(
            skipped,
            ["iptables-nft@5000: loading so many rules takes minutes to hours", "ipvs: no module"]
        );
    }

    #[test]
    fn what_was_asked_for_and_is_not_there_is_an_error() {
        let no_ipvs = |path| (path == DataPath::Ipvs).then(|| "no module".to_owned());
        let error = arguments(&["--data-paths=ipvs"]).plan(no_ipvs).unwrap_err();
        assert_eq!(error.to_string(), "not on this machine: ipvs: no module");
    }
}

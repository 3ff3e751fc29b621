// SPDX-License-Identifier: Apache-2.0
//! The directory source on a real directory.

use std::{fmt::Write, fs::File, os::unix::fs::symlink};

use tempfile::TempDir;
use tokio::time::timeout;

use super::*;
use crate::model::object::Object;

/// Longer than any event takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
/// Long enough for an event that should not come.
const QUIET: Duration = Duration::from_millis(100);

struct Fixture {
    directory: TempDir,
    batches: Batches,
}

impl Fixture {
    /// Starts on a directory with these files; skips the first batch.
    async fn with(files: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(directory.path().join(name), text).unwrap();
        }
        let batches = DirSource::new(directory.path()).start().unwrap();
        let mut fixture = Self { directory, batches };
        assert_eq!(fixture.next().await.last().map(String::as_str), Some("synced"));
        fixture
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// The next batch as text.
    async fn next(&mut self) -> Vec<String> {
        let batch = timeout(PATIENCE, self.batches.recv()).await.unwrap().unwrap().batch;
        batch.iter().map(say).collect()
    }

    async fn is_quiet(&mut self) -> bool {
        timeout(QUIET, self.batches.recv()).await.is_err()
    }
}

fn say(event: &Event) -> String {
    match event {
        Event::Apply(Object::Service(service)) => {
            format!("apply {} {}", service.name, service.cluster_ips.v4.unwrap())
        }
        Event::Apply(object) => format!("apply {}", object.object_ref()),
        Event::Delete(object) => format!("delete {object}"),
        Event::Rejected(object, reasons) => format!("{object}: {} rejections", reasons.len()),
        Event::Synced => "synced".to_owned(),
    }
}

fn service(name: &str, ip: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\n\
         spec: {{clusterIP: {ip}}}\n"
    )
}

#[test]
fn a_missing_directory_is_a_clear_error() {
    let error = DirSource::new("/nonexistent/manifests").start().unwrap_err();
    assert_eq!(
        error.to_string(),
        "watching the directory /nonexistent/manifests: No such file or directory (os error 2)"
    );
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = DirSource::new(file.path()).start().unwrap_err().to_string();
    assert!(error.contains("Not a directory"), "{error}");
}

#[tokio::test]
async fn what_exists_comes_in_one_batch() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
    write("b.yml", &(service("b", "10.96.0.2") + &service("c", "10.96.0.3")));
    write("a.json", r#"{"kind":"Node","apiVersion":"v1","metadata":{"name":"n1"}}"#);
    write(
        "l.yaml",
        "kind: List\napiVersion: v1\nitems:\n\
         - kind: Namespace\n  apiVersion: v1\n  metadata: {name: shop}\n",
    );
    write(".hidden.yaml", &service("hidden", "10.96.0.4"));
    write("README.md", "not read");
    fs::create_dir(directory.path().join("sub.yaml")).unwrap();

    let batches = DirSource::new(directory.path()).start().unwrap();
    let mut fixture = Fixture { directory, batches };
    assert_eq!(
        fixture.next().await,
        [
            "apply default/b 10.96.0.2",
            "apply default/c 10.96.0.3",
            "apply Node n1",
            "apply Namespace shop",
            "synced"
        ]
    );
    assert!(fixture.is_quiet().await);
}

#[tokio::test]
async fn files_that_come_change_and_go_are_followed() {
    let mut fixture = Fixture::with(&[]).await;
    fixture.write("web.yaml", &service("web", "10.96.0.1"));
    assert_eq!(fixture.next().await, ["apply default/web 10.96.0.1"]);
    // Overwritten in place.
    fixture.write("web.yaml", &service("web", "10.96.0.2"));
    assert_eq!(fixture.next().await, ["apply default/web 10.96.0.2"]);
    // Replaced by a rename.
    fixture.write("web.tmp", &service("web", "10.96.0.3"));
    fs::rename(fixture.path("web.tmp"), fixture.path("web.yaml")).unwrap();
    assert_eq!(fixture.next().await, ["apply default/web 10.96.0.3"]);
    // Written again as it was.
    fixture.write("web.yaml", &service("web", "10.96.0.3"));
    assert!(fixture.is_quiet().await);
    // Renamed: the object stays, so nothing happens.
    fs::rename(fixture.path("web.yaml"), fixture.path("shop.yaml")).unwrap();
    fs::remove_file(fixture.path("shop.yaml")).unwrap();
    let mut told = fixture.next().await;
    while told.last().is_none_or(|last| last != "delete Service default/web") {
        told.extend(fixture.next().await);
    }
    // Out of sight by a rename.
    fixture.write("web.yaml", &service("web", "10.96.0.3"));
    assert_eq!(fixture.next().await, ["apply default/web 10.96.0.3"]);
    fs::rename(fixture.path("web.yaml"), fixture.path("web.off")).unwrap();
    assert_eq!(fixture.next().await, ["delete Service default/web"]);
}

#[tokio::test]
async fn a_file_that_is_being_written_is_not_read() {
    use std::io::Write;
    let mut fixture = Fixture::with(&[]).await;
    let mut file = File::create(fixture.path("web.yaml")).unwrap();
    file.write_all(service("a", "10.96.0.1").as_bytes()).unwrap();
    assert!(fixture.is_quiet().await);
    file.write_all(service("b", "10.96.0.2").as_bytes()).unwrap();
    drop(file);
    assert_eq!(fixture.next().await, ["apply default/a 10.96.0.1", "apply default/b 10.96.0.2"]);
}

#[tokio::test]
async fn links_are_followed() {
    let mut fixture = Fixture::with(&[("web.txt", &service("web", "10.96.0.1"))]).await;
    symlink("web.txt", fixture.path("soft.yaml")).unwrap();
    assert_eq!(fixture.next().await, ["apply default/web 10.96.0.1"]);
    fs::remove_file(fixture.path("soft.yaml")).unwrap();
    assert_eq!(fixture.next().await, ["delete Service default/web"]);
    fs::hard_link(fixture.path("web.txt"), fixture.path("hard.yaml")).unwrap();
    assert_eq!(fixture.next().await, ["apply default/web 10.96.0.1"]);
}

#[tokio::test]
async fn a_malformed_file_is_rejected_until_it_is_fixed() {
    let good = service("web", "10.96.0.1");
    let mut fixture =
        Fixture::with(&[("web.yaml", &good), ("api.yaml", &service("api", "10.96.0.9"))]).await;
    fixture.write("web.yaml", &format!("{good}  - broken: [\n"));
    assert_eq!(fixture.next().await, ["File web.yaml: 1 rejections"]);
    fixture.write("api.yaml", &service("api", "10.96.0.8"));
    assert_eq!(fixture.next().await, ["apply default/api 10.96.0.8"]);
    fixture.write("web.yaml", &service("web", "10.96.0.2"));
    let events = fixture.next().await;
    assert_eq!(events, ["apply default/web 10.96.0.2", "File web.yaml: 0 rejections"]);
    fs::write(fixture.path("web.yaml"), [0xff, 0xfe]).unwrap();
    assert_eq!(fixture.next().await, ["File web.yaml: 1 rejections"]);
    fs::remove_file(fixture.path("web.yaml")).unwrap();
    let mut events = fixture.next().await;
    events.sort();
    assert_eq!(events, ["File web.yaml: 0 rejections", "delete Service default/web"]);
}

#[tokio::test]
async fn the_same_object_in_two_files_is_a_rejection() {
    let mut fixture = Fixture::with(&[("b.yaml", &service("web", "10.96.0.2"))]).await;
    fixture.write("c.yaml", &service("web", "10.96.0.3"));
    assert_eq!(fixture.next().await, ["Service default/web: 1 rejections"]);
    fs::remove_file(fixture.path("b.yaml")).unwrap();
    let events = fixture.next().await;
    assert_eq!(events, ["apply default/web 10.96.0.3", "Service default/web: 0 rejections"]);
}

#[tokio::test]
async fn the_swap_of_a_mounted_config_map_is_seen() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    for (version, ip) in [("..1", "10.96.0.1"), ("..2", "10.96.0.2")] {
        fs::create_dir(at(version)).unwrap();
        fs::write(at(version).join("web.yaml"), service("web", ip)).unwrap();
    }
    symlink("..1", at("..data")).unwrap();
    symlink("..data/web.yaml", at("web.yaml")).unwrap();
    let mut batches = DirSource::new(directory.path()).start().unwrap();
    let first: Vec<_> = batches.recv().await.unwrap().batch.iter().map(say).collect();
    assert_eq!(first, ["apply default/web 10.96.0.1", "synced"]);

    symlink("..2", at("..data_tmp")).unwrap();
    fs::rename(at("..data_tmp"), at("..data")).unwrap();
    let mut fixture = Fixture { directory, batches };
    assert_eq!(fixture.next().await, ["apply default/web 10.96.0.2"]);
}

#[tokio::test]
async fn a_burst_loses_nothing() {
    let mut fixture = Fixture::with(&[]).await;
    for number in 0..500 {
        let text =
            service(&format!("s{number}"), &format!("10.96.{}.{}", number / 250, number % 250 + 1));
        fixture.write(&format!("{number}.yaml"), &text);
    }
    let mut count = 0;
    while count < 500 {
        count += fixture.next().await.len();
    }
    assert!(fixture.is_quiet().await);
}

#[tokio::test]
async fn a_large_file_is_read_by_several_threads_in_order() {
    let mut text = String::new();
    for number in 0..9_000 {
        let ip = format!("10.96.{}.{}", number / 250, number % 250 + 1);
        writeln!(text, "{}", service(&format!("s{number:05}"), &ip)).unwrap();
    }
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("all.yaml"), &text).unwrap();
    let batches = DirSource::new(directory.path()).start().unwrap();
    let mut fixture = Fixture { directory, batches };
    let events = fixture.next().await;
    assert_eq!(events.len(), 9_001);
    assert!(events.is_sorted());
}

#[tokio::test]
async fn a_directory_that_goes_is_told_and_found_again() {
    let mut fixture = Fixture::with(&[("web.yaml", &service("web", "10.96.0.1"))]).await;
    let away = fixture.directory.path().with_extension("away");
    fs::rename(fixture.directory.path(), &away).unwrap();
    let path = fixture.directory.path().display().to_string();
    assert_eq!(fixture.next().await, [format!("Directory {path}: 1 rejections")]);
    fs::write(away.join("web.yaml"), service("web", "10.96.0.2")).unwrap();
    fs::rename(&away, fixture.directory.path()).unwrap();
    assert_eq!(
        fixture.next().await,
        ["apply default/web 10.96.0.2".to_owned(), format!("Directory {path}: 0 rejections")]
    );
    fixture.write("web.yaml", &service("web", "10.96.0.3"));
    assert_eq!(fixture.next().await, ["apply default/web 10.96.0.3"]);
}

#[test]
fn an_overflow_of_the_queue_asks_for_everything() {
    let mut touched = Touched::default();
    touched.note(Path::new("/"), EventMask::Q_OVERFLOW, None);
    assert!(touched.everything && !touched.directory_gone);
}

#[tokio::test]
async fn a_full_look_finds_what_the_queue_lost() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let (sender, _batches) = mpsc::channel(1);
    let mut watcher = Watcher {
        path: directory.path().to_owned(),
        catalog: Catalog::default(),
        converter: Converter::default(),
        sender,
    };
    fs::write(at("a.yaml"), service("a", "10.96.0.1")).unwrap();
    fs::write(at("b.yaml"), service("b", "10.96.0.2")).unwrap();
    let everything = || Touched { everything: true, ..Touched::default() };
    assert_eq!(watcher.read(everything()).len(), 2);
    assert_eq!(watcher.read(everything()).len(), 0);
    fs::remove_file(at("a.yaml")).unwrap();
    fs::write(at("b.yaml"), service("b", "10.96.0.3")).unwrap();
    let told: Vec<_> = watcher.read(everything()).iter().map(say).collect();
    assert_eq!(told, ["delete Service default/a", "apply default/b 10.96.0.3"]);
}

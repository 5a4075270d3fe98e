"""The configuration file: what fits is read, and what does not is told with its key and what to do."""

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from services.collector.config import ConfigError, read_config
from services.collector.core.inventory import observed
from solyx.events import DeviceGroup

ROOT = Path(__file__).resolve().parents[3]
PROMETHEUS = """
prometheus:
  - name: fleet
    static: [{targets: ["p:9090"]}]
    queries: [{name: up, query: up}]
"""
ENERGY = """
energy:
  - name: prices
    site: berlin
    kind: price_eur_per_mwh
    csv: {file: prices.csv}
"""


@pytest.fixture
def read(tmp_path):
    def read(text: str, **environment: str):
        (tmp_path / "collector.yaml").write_text(text)
        return read_config(tmp_path / "collector.yaml", environment)

    return read


def test_an_empty_file_collects_nothing(read):
    located = read("")
    assert (located.collection.prometheus, located.collection.energy, located.collection.grid) == ((), (), ())


def test_files_are_relative_to_the_configuration(read, tmp_path):
    assert read(ENERGY).directory == tmp_path


def test_secrets_come_from_the_environment(read):
    text = PROMETHEUS + "    http: {auth: {username: u, password: '${PROM_PASSWORD}'}, headers: {X: 'a$${b}'}}\n"
    (source,) = read(text, PROM_PASSWORD="s3cret").collection.prometheus
    assert (source.http.auth.password, source.http.headers) == ("s3cret", {"X": "a${b}"})


def test_the_readmes_example_is_complete_and_works(tmp_path):
    readme = (ROOT / "services/collector/README.md").read_text()
    (example,) = re.findall(r"```yaml\n(.*?)```", readme, re.DOTALL)
    (tmp_path / "collector.yaml").write_text(example)
    environment = dict.fromkeys(re.findall(r"\$\{(\w+)\}", example), "x")
    collection = read_config(tmp_path / "collector.yaml", environment).collection
    assert collection.prometheus
    assert {feed.csv is None for feed in collection.energy} == {True, False}
    assert collection.grid


@pytest.mark.parametrize(
    ("text", "key", "says"),
    [
        ("energy: [", "line 1", "is no YAML"),
        ("7", "", "Write a mapping"),
        ("enrgy: []", "enrgy", "Write `energy`"),
        (PROMETHEUS.replace("query: up", "query: up, evry_s: 5"), "prometheus[0].queries[0].evry_s", "Write `every_s`"),
        (PROMETHEUS.replace("query: up", "query: up, every_s: soon"), "prometheus[0].queries[0].every_s", "a number"),
        (PROMETHEUS.replace("query: up", "query: up, every_s: 0"), "prometheus[0].queries[0].every_s", "> 0"),
        (PROMETHEUS.replace("{name: up, query: up}", "{name: up}"), "prometheus[0].queries[0].query", "Add it"),
        (PROMETHEUS.replace("query: up", "query: up, mode: rang"), "prometheus[0].queries[0].mode", "'rang'"),
        (re.sub("    static.*\n", "", PROMETHEUS), "prometheus[0]", "Add `static`, `files` or `http_sd`"),
        (PROMETHEUS + "  - {name: fleet, files: [x], queries: [{name: up, query: up}]}", "", "Names must differ"),
        (PROMETHEUS.replace("p:9090", "http://p"), "prometheus[0].static[0].targets[0]", "matching"),
        (PROMETHEUS + "    http: {auth: {password: x}}", "prometheus[0].http.auth", "Add `username`"),
        (PROMETHEUS + "    http: {headers: {X: '${NOPE}'}}", "prometheus[0].http.headers.X", "variable NOPE"),
        (ENERGY + "    unit: pct", "energy[0]", "Write one of eur_per_mwh"),
        (ENERGY + "    timezone: Mars/Olympus", "energy[0]", "IANA"),
        (ENERGY + "    step_s: 7000", "energy[0]", "900 or 3600"),
        (ENERGY + "    json: {url: u, time: t, value: v}", "energy[0]", "exactly one of `csv` and `json`"),
        (ENERGY.replace("csv: {file: prices.csv}", "json: {url: u, time: t., value: v}"), "energy[0].json", "a dot"),
        (
            ENERGY.replace("csv: {file: prices.csv}", "json: {url: 'u{x}', time: t, value: v}"),
            "energy[0].json",
            "{from}",
        ),
        ("sites: [{name: s, nodes: [], price_bound_eur_per_mwh: .nan}]", "sites[0].price_bound_eur_per_mwh", ">="),
        ("sites: [{name: s, nodes: []}]", "sites[0]", "Add one to `nodes`"),
        (
            "sites: [{name: s, nodes: [{name: a, cpu: 1, memory_gib: 1}, {name: a, cpu: 1, memory_gib: 1}]}]",
            "sites[0]",
            "differ",
        ),
        ("grid: [{name: g, json: {url: u, event_id: i, start: s, end: e, power_cap: p}}]", "grid[0]", "`site`"),
        (
            "grid: [{name: g, site: s, json: {url: u, event_id: i, start: s, power_cap: p}}]",
            "grid[0].json",
            "duration_s",
        ),
    ],
)
def test_a_mistake_is_told_with_its_key_and_what_to_do(read, tmp_path, text, key, says):
    with pytest.raises(ConfigError) as caught:
        read(text)
    assert caught.value.key == key
    assert says in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path / "collector.yaml"))
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(ConfigError, match="SOLYX_COLLECTOR_CONFIG"):
        read_config(tmp_path / "none.yaml", {})


# ----------------------------------------------------------------------------------------------------------- inventory

SITE = """
sites:
  - name: berlin
    nodes:
      - {name: gpu, count: 2, cpu: 8, memory_gib: 64, rack: r1, devices: [{model: A100, count: 4, domain: a}]}
      - {name: head, cpu: 8, memory_gib: 64, taints: [head]}
"""


def test_machines_have_taints_racks_and_domains_and_may_be_closed(read):
    (site,) = read(SITE + "    cordoned: [gpu-0]\n    draining: [head]\n").collection.sites
    event = observed(site, datetime(2026, 3, 1, tzinfo=UTC))
    assert [(n.name, n.ready, n.draining, n.taints, n.rack) for n in event.nodes] == [
        ("gpu-0", False, False, (), "r1"),
        ("gpu-1", True, False, (), "r1"),
        ("head", False, True, ("head",), ""),
    ]
    assert event.nodes[0].devices == (DeviceGroup(model="A100", count=4, domain="a"),)


@pytest.mark.parametrize("key", ["cordoned", "draining"])
def test_a_closed_machine_that_is_not_there_is_named(read, key):
    with pytest.raises(ConfigError, match=rf"`{key}` names 'gpu-7', which is no machine of the site. One is 'gpu-0'"):
        read(SITE + f"    {key}: [gpu-7]\n")


def test_a_site_may_state_a_bound_on_its_price(read):
    (site,) = read(SITE + "    price_bound_eur_per_mwh: 150\n").collection.sites
    assert observed(site, datetime(2026, 3, 1, tzinfo=UTC)).price_bound_eur_per_mwh == 150
    (site,) = read(SITE).collection.sites
    assert observed(site, datetime(2026, 3, 1, tzinfo=UTC)).price_bound_eur_per_mwh is None

import numpy as np
import pytest

from solyx.scenario import ScenarioError, load
from solyx.scenario.__main__ import main, summary

HEADER = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos,pod_phase,creation_time,deletion_time,scheduled_time"


@pytest.mark.parametrize(
    ("old", "new", "line", "key", "says"),
    [
        ('name = "small"', 'name = "small', 1, "", "is not TOML"),
        ('name = "small"\n', "", 0, "name", "is missing"),
        ('name = "small"', 'name = ""', 1, "name", "is empty"),
        ("2023-06-01T00:00:00Z", "2023-06-01T00:00:00", 2, "start", "no time zone"),
        ("2023-06-01T00:00:00Z", '"June"', 2, "start", "not a time"),
        ('file = "jobs.csv"', 'file = "pods.csv"', 6, "jobs.file", "not there"),
        ('format = "openb"', 'format = "swf"', 7, "jobs.format", "not known"),
        ("offset_s = 1000", 'offset_s = "1000"', 8, "jobs.offset_s", "not a number"),
        ("tenants = 4", "tenants = 0", 9, "jobs.tenants", "is 0"),
        ("tenants = 4", "tenants = true", 9, "jobs.tenants", "not a whole number"),
        ("BE = 24", 'BE = "a day"', 10, "jobs.max_delay_h.BE", "not a number"),
        ('noise = "lognormal"', 'noise = "normal"', 11, "jobs.duration_estimate.noise", "not known"),
        ('name = "texas"', 'name = "berlin"', 27, "sites[1].name", "as of another site"),
        ('published = "12:45"', 'published = "noon"', 17, "sites[0].energy.published", "not a time of day"),
        ("Europe/Berlin", "Europe/Bonn", 17, "sites[0].energy.timezone", "no time zone"),
        ("pue = 1.25", "pue = 0.5", 19, "sites[0].power.pue", "is 0.5"),
        ("pue = 1.25", "pue = nan", 19, "sites[0].power.pue", "is nan"),
        ("count = 2, cpu = 32", "count = 2", 18, "sites[0].nodes.cpu", "is missing"),
        ('node = "berlin-001"', 'node = "berlin-009"', 22, "sites[0].outages[0].node", "not there"),
        ("until_h = 3.5", "until_h = 1", 24, "sites[0].outages[0].until_h", "not after from_h"),
        (
            "[[sites.outages]]",
            '[[sites.maintenance]]\nnode = "berlin-001"\naction = "repair"\nfrom_h = 1\n[[sites.outages]]',
            23,
            "sites[0].maintenance[0].action",
            "not known",
        ),
        (
            "[[sites.outages]]",
            '[[sites.maintenance]]\nnode = "berlin-7"\naction = "drain"\nfrom_h = 1\n[[sites.outages]]',
            22,
            "sites[0].maintenance[0].node",
            "not there",
        ),
        (
            "[[sites.outages]]",
            '[[sites.maintenance]]\nnode = "berlin-000"\naction = "drain"\nfrom_h = 1\nuntil_h = 1\n[[sites.outages]]',
            25,
            "sites[0].maintenance[0].until_h",
            "not after from_h",
        ),
        (
            "period_s = 60 }",
            'period_s = 60 }\nslowdowns = [{ link = "hub>dallas", latency_ms = 9, from_h = 1 }]',
            38,
            "network.slowdowns[0].link",
            "not there",
        ),
        (
            "period_s = 60 }",
            'period_s = 60 }\nslowdowns = [{ link = "hub>texas", from_h = 1 }]',
            38,
            "network.slowdowns[0].latency_ms",
            "is missing",
        ),
        ("memory_gib = 128 }", 'memory_gib = 128, taints = "spot" }', 18, "sites[0].nodes.taints", "a list of texts"),
        ("memory_gib = 128 }", "memory_gib = 128, taints = [1] }", 18, "sites[0].nodes.taints", "holds 1"),
        ("memory_gib = 128 }", "memory_gib = 128, nodes_per_rack = -1 }", 18, "sites[0].nodes.nodes_per_rack", "is -1"),
        (
            "memory_gib = 128 }",
            "memory_gib = 128, gpus_per_domain = 0.5 }",
            18,
            "sites[0].nodes.gpus_per_domain",
            "whole",
        ),
        (
            'nodes = { file = "nodes.csv", select = "index % 2 == 1" }',
            'nodes = [\n  { file = "nodes.csv", select = "index % 2 == 1" },\n  { file = "nodes.csv" },\n]',
            31,
            "sites[1].nodes[1]",
            "has 'n1', as another group",
        ),
        ("index % 2 == 1", "index = 1", 29, "sites[1].nodes.select", "cannot be read"),
        ("index % 2 == 1", "index % 9 == 8", 29, "sites[1].nodes.select", "selects no node"),
        ('b = "texas", capacity', 'b = "hub", capacity', 35, "network.links[1].b", "same as a"),
        ('a = "hub", b = "texas"', 'a = "hub", b = "berlin"', 33, "network.links", "appears twice"),
        ("nodes = { file", 'network_node = "dallas"\nnodes = { file', 29, "sites[1].network_node", "no link touches"),
        ("latency_ms = 30.5", "latency = 30.5", 35, "network.links[1].latency_ms", "is missing"),
        ("period_s = 60", "period_s = 0", 37, "network.background.period_s", "is 0"),
    ],
)
def test_a_mistake_in_the_document_is_named_by_line_and_key(write, old, new, line, key, says):
    directory = write("scenario.toml", old, new)
    with pytest.raises(ScenarioError, match=says) as caught:
        load(directory)
    error = caught.value
    assert (error.file, error.line, error.key) == (directory / "scenario.toml", line, key)
    assert error.cure
    assert str(error).startswith(f"{directory / 'scenario.toml'}{f':{line}' if line else ''}: ")


@pytest.mark.parametrize(
    ("old", "new", "line", "column", "says"),
    [
        ("later,4000", "later,many", 2, "cpu_milli", "not a number"),
        ("later,4000", "later,40.5", 2, "cpu_milli", "not a whole number"),
        ("later,4000", "later,-1", 2, "cpu_milli", "is -1"),
        ("later,4000", "later", 2, "", "has 10 cells, the header 11"),
        ("1,460", "1,1460", 3, "gpu_milli", "is 1460"),
        ("1,460", "2,460", 3, "gpu_milli", "each of 2 GPUs"),
        ("V100M32,LS", "V100M32,XL", 2, "qos", "has no maximum delay"),
        ("1500,2500", "1500,1400", 2, "deletion_time", "before creation_time"),
        ("1500,2500", ",2500", 2, "creation_time", "is empty"),
        ("creation_time", "created", 1, "creation_time", "not among the columns"),
    ],
)
def test_a_bad_cell_of_the_jobs_is_named_by_line_and_column(write, old, new, line, column, says):
    directory = write("jobs.csv", old, new)
    with pytest.raises(ScenarioError, match=says) as caught:
        list(load(directory).jobs())
    assert (caught.value.file.name, caught.value.line, caught.value.key) == ("jobs.csv", line, column)


@pytest.mark.parametrize(
    ("old", "new", "line", "column", "says"),
    [
        ("50.5", "n/a", 2, "price_eur_mwh", "not a number"),
        ("50.5", "inf", 2, "price_eur_mwh", "finite"),
        ("2023-05-31T23:00:00Z", "31.05.2023", 3, "time", "not a time"),
        ("2023-05-31T23:00:00Z", "2023-05-31T23:00:00", 3, "time", "without a time zone"),
        ("2023-05-31T23:00:00Z", "2023-05-31T22:30:00Z", 3, "time", "not a full hour after"),
        ("2023-05-31T23:00:00Z", "2023-05-31T22:00:00Z", 3, "time", "not a full hour after"),
    ],
)
def test_a_bad_cell_of_the_energy_is_named_by_line_and_column(write, old, new, line, column, says):
    directory = write("energy.csv", old, new)
    with pytest.raises(ScenarioError, match=says) as caught:
        load(directory).energy("berlin")
    assert (caught.value.file.name, caught.value.line, caught.value.key) == ("energy.csv", line, column)


def test_energy_without_rows_is_refused(write):
    with pytest.raises(ScenarioError, match="no rows"):
        load(write("energy.csv", content="time,price_eur_mwh,carbon_gco2_kwh,renewable_pct\n")).energy("berlin")


def test_an_empty_file_is_refused(write):
    with pytest.raises(ScenarioError, match="is empty"):
        list(load(write("jobs.csv", content="")).jobs())


def test_text_that_is_no_utf8_is_refused(write):
    directory = write()
    (directory / "jobs.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ScenarioError, match="cannot be read"):
        list(load(directory).jobs())


def test_traffic_of_an_unknown_node_is_refused(write):
    with pytest.raises(ScenarioError, match="no link touches") as caught:
        load(write("traffic.csv", "0,hub", "0,hup"))
    assert (caught.value.file.name, caught.value.line, caught.value.key) == ("traffic.csv", 3, "source")


def test_a_directory_without_a_scenario_says_how_to_make_one(tmp_path):
    with pytest.raises(ScenarioError, match=r"no such file.*solyx.scenario generate"):
        load(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("matrices", "says"),
    [
        ({"demand": np.zeros((1, 2, 2))}, "cannot be read"),
        ({"tm": np.zeros((1, 3, 3))}, "has the shape"),
        ({"tm": np.full((1, 2, 2), -1.0)}, "negative"),
    ],
)
def test_matrices_that_do_not_fit_the_network_are_refused(write, matrices, says):
    directory = node_link(write)
    np.savez(directory / "tm.npz", **matrices)
    with pytest.raises(ScenarioError, match=says):
        load(directory)


def test_a_node_link_file_counts_in_megabits_and_its_matrices_too(write):
    directory = node_link(write)
    np.savez(directory / "tm.npz", tm=np.array([[[0, 20.0], [5.0, 0]]]))
    scenario = load(directory)
    assert [(link.name, link.capacity_bps, link.latency_ms) for link in scenario.network.links] == [
        ("0>1", 5e9, 5.0),
        ("1>0", 5e9, 5.0),
    ]
    assert scenario.link_rates(7) == {"0>1": 20e6, "1>0": 5e6}


def test_a_broken_network_file_is_refused(write):
    directory = node_link(write)
    np.savez(directory / "tm.npz", tm=np.zeros((1, 2, 2)))
    (directory / "net.json").write_text('{"links": [{"source": 0}]}')
    with pytest.raises(ScenarioError, match="missing required field"):
        load(directory)


def node_link(write):
    directory = write()
    text = (directory / "scenario.toml").read_text()
    head = (
        text[: text.index("[network]")]
        .replace("nodes = { c", "network_node = 0\nnodes = { c")
        .replace("nodes = { f", "network_node = 1\nnodes = { f")
    )
    (directory / "scenario.toml").write_text(
        head + '[network]\nfile = "net.json"\nbackground = { file = "tm.npz", period_s = 300 }\n'
    )
    (directory / "net.json").write_text(
        '{"directed": true, "nodes": [{"id": 0}, {"id": 1}], "links": [{"source": 0, "target": 1, "capacity": 5000.0}, {"source": 1, "target": 0, "capacity": 5000}]}'
    )
    return directory


def test_check_describes_a_scenario_and_fails_on_a_broken_one(write, capsys):
    directory = write()
    assert main(["check", str(directory)]) == 0
    out = capsys.readouterr().out
    assert "site texas: TX, 2 nodes, 160 cores, 8 GPUs" in out
    assert "jobs: 4" in out
    (directory / "energy.csv").write_text("time\n")
    assert main(["check", str(directory)]) == 1
    assert "energy.csv:1: price_eur_mwh" in capsys.readouterr().err


def test_energy_that_does_not_cover_the_start_is_found_by_check(write):
    scenario = load(write("scenario.toml", "2023-06-01T00", "2024-06-01T00"))
    with pytest.raises(ScenarioError, match="is outside"):
        summary(scenario)

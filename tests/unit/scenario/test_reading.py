from datetime import UTC, datetime, time

import pytest

from solyx.events import Battery, DataSet, DeviceGroup, DeviceRequest, Node, PowerModel
from solyx.scenario import DayAheadMarket, Maintenance, Outage, Slowdown, load
from solyx.scenario.document import key_lines
from solyx.scenario.errors import ScenarioError
from solyx.scenario.inventory import GIB, MIB, parse_selection


def test_sites_have_their_nodes_power_market_and_attachment(write):
    scenario = load(write())
    berlin, texas = scenario.sites
    assert (scenario.name, scenario.start, scenario.currency) == ("small", datetime(2023, 6, 1, tzinfo=UTC), "EUR")
    assert berlin.nodes == (
        Node(name="berlin-000", cpu_milli=32_000, memory_bytes=128 * GIB),
        Node(name="berlin-001", cpu_milli=32_000, memory_bytes=128 * GIB),
    )
    assert texas.nodes == (
        Node(name="n1", cpu_milli=96_000, memory_bytes=786_432 * MIB, devices=(DeviceGroup(model="V100M16", count=8),)),
        Node(name="n3", cpu_milli=64_000, memory_bytes=262_144 * MIB),
    )
    assert berlin.power == PowerModel(idle_w_per_node=250, w_per_core=6, w_per_gpu=300, pue=1.25)
    assert berlin.market == DayAheadMarket(zone="DE", published=time(12, 45), timezone="Europe/Berlin")
    assert berlin.network_node == "berlin"
    assert berlin.egress_eur_per_gib == 0.0005
    assert berlin.outages == (Outage(subject="berlin-001", from_s=7200.0, until_s=12_600.0),)
    assert texas.outages == ()


def test_machines_of_groups_have_taints_racks_and_domains(write):
    groups = """nodes = [
  { count = 3, cpu = 32, memory_gib = 128, gpu = 6, gpu_model = "A100", nodes_per_rack = 2, gpus_per_domain = 4 },
  { count = 1, cpu = 8, memory_gib = 16, taints = ["spot", "slow"], nodes_per_rack = 2 },
]"""
    berlin = load(write("scenario.toml", "nodes = { count = 2, cpu = 32, memory_gib = 128 }", groups)).sites[0]
    assert [(node.name, node.rack, node.taints) for node in berlin.nodes] == [
        ("berlin-000", "berlin-rack-0", ()),
        ("berlin-001", "berlin-rack-0", ()),
        ("berlin-002", "berlin-rack-1", ()),
        ("berlin-003", "berlin-rack-1", ("spot", "slow")),
    ]
    domains = (DeviceGroup(model="A100", count=4, domain="0"), DeviceGroup(model="A100", count=2, domain="1"))
    assert berlin.nodes[0].devices == domains
    assert berlin.nodes[3].devices == ()


def test_an_inventory_file_may_name_taints_and_racks(write):
    directory = write(
        "nodes.csv", "sn,cpu_milli,memory_mib,gpu,model\n", "sn,cpu_milli,memory_mib,gpu,model,rack,taints\n"
    )
    rows = (directory / "nodes.csv").read_text().splitlines()
    (directory / "nodes.csv").write_text("\n".join([rows[0], *(f"{row},r7,spot|slow" for row in rows[1:])]))
    (first, _) = load(directory).sites[1].nodes
    assert (first.rack, first.taints) == ("r7", ("spot", "slow"))


def test_maintenance_of_a_machine_is_a_time_and_whether_it_drains(write):
    added = """[[sites.maintenance]]
node = "berlin-000"
action = "drain"
from_h = 1
until_h = 2

[[sites.maintenance]]
node = "berlin-001"
action = "cordon"
from_h = 3

[[sites.outages]]"""
    berlin = load(write("scenario.toml", "[[sites.outages]]", added)).sites[0]
    assert berlin.maintenance == (
        Maintenance(subject="berlin-000", from_s=3600.0, until_s=7200.0, drains=True),
        Maintenance(subject="berlin-001", from_s=10_800.0, until_s=None, drains=False),
    )


def test_links_grow_slow_for_a_while_or_for_good(write):
    added = """period_s = 60 }
slowdowns = [
  { link = "hub>texas", latency_ms = 90, from_h = 1, until_h = 2 },
  { link = "texas>hub", latency_ms = 40.5, from_h = 3 },
]"""
    assert load(write("scenario.toml", "period_s = 60 }", added)).network.slowdowns == (
        Slowdown(subject="hub>texas", from_s=3600.0, until_s=7200.0, latency_ms=90.0),
        Slowdown(subject="texas>hub", from_s=10_800.0, until_s=None, latency_ms=40.5),
    )


def test_round_trips_between_sites_follow_the_network(write):
    berlin, texas = load(write()).sites
    assert berlin.latency_ms == {"texas": 81.0}
    assert texas.latency_ms == {"berlin": 81.0}


def test_named_places_add_their_latency(write):
    berlin = load(write("scenario.toml", "power = { idle", "latency_ms = { paris = 12.5 }\npower = { idle")).sites[0]
    assert berlin.latency_ms == {"texas": 81.0, "paris": 12.5}


def test_keys_nobody_read_are_reported(write):
    scenario = load(write("scenario.toml", "tenants = 4", "tennants = 4"))
    assert scenario.unread_keys == ("jobs.tennants",)


@pytest.mark.parametrize(
    ("expression", "selected"),
    [
        ("index % 4 == 1", [1, 5, 9]),
        ("index>=8", [8, 9]),
        ("index % 2 == 0 and index < 5 and index != 2", [0, 4]),
    ],
)
def test_a_selection_compares_the_row_index(expression, selected):
    selects = parse_selection(expression)
    assert [index for index in range(10) if selects(index)] == selected


@pytest.mark.parametrize(
    "expression", ["", "index", "index % 0 == 1", "__import__('os')", "index == 1 or index == 2", "index == -1"]
)
def test_what_is_no_selection_is_refused(expression):
    with pytest.raises(ValueError, match=r"comparison|division"):
        parse_selection(expression)


def test_lines_are_known_of_tables_keys_and_elements():
    lines = key_lines(
        'a = 1\n[b.c]\n d = { e = 1 }\n[[f]]\ng = 2\n[[f.h]]\n"i" = 3\n[[f]]\ng = [\n  { x = 1 },\n  # note\n  { x = 2 },\n]\n'
    )
    assert lines[("a",)] == 1
    assert lines[("b", "c")] == 2
    assert lines[("b", "c", "d")] == 3
    assert lines[("f", 0)] == 4
    assert lines[("f", 0, "g")] == 5
    assert lines[("f", 0, "h", 0, "i")] == 7
    assert lines[("f", 1, "g")] == 9
    assert lines[("f", 1, "g", 0)] == 10
    assert lines[("f", 1, "g", 1)] == 12


def test_jobs_come_in_order_of_arrival_from_the_offset_on(write):
    jobs = list(load(write()).jobs())
    assert [(job.name, job.arrival_s, job.true_duration_s) for job in jobs] == [
        ("running", 0.0, 400.0),  # what remains of it
        ("first", 0.0, 1500.0),  # never deleted: until the end of the trace at 2,500
        ("later", 500.0, 1000.0),
        ("instant", 800.0, 1.0),
    ]


def test_a_pod_already_running_at_the_start_stays_at_home_and_does_not_wait(write):
    running = next(load(write()).jobs())
    assert running.spec.max_delay_s == 0.0
    assert running.spec.allowed_sites == (running.home_site,)
    assert running.spec.labels["solyx.io/running-at-start"] == "true"
    assert running.spec.labels["solyx.io/simulated-duration-s"] == "400.000"
    assert running.spec.preemptible


def test_a_pod_becomes_a_specification(write):
    jobs = {job.name: job for job in load(write()).jobs()}
    spec = jobs["later"].spec
    assert spec.resources.cpu_milli == 4000
    assert spec.resources.memory_bytes == 1024 * MIB
    assert spec.resources.devices == (DeviceRequest(models=("V100M16", "V100M32"), count=2),)
    assert (spec.priority, spec.preemptible, spec.max_delay_s, spec.home_site) == (
        100,
        False,
        0.0,
        jobs["later"].home_site,
    )
    assert spec.data == DataSet(size_bytes=40 * GIB, site=jobs["later"].home_site)
    assert jobs["running"].spec.resources.devices == (DeviceRequest(count=1, share_milli=460),)
    assert jobs["first"].spec.data is None
    assert (jobs["first"].spec.max_delay_s, jobs["first"].spec.priority) == (86_400.0, 0)


def test_tenant_and_home_follow_from_the_name(write):
    job = next(job for job in load(write()).jobs() if job.name == "later")
    tenant = 3_959_665_225 % 4  # crc32 of "later"
    assert job.tenant == f"tenant-{tenant}"
    assert job.home_site == ("berlin", "texas")[tenant % 2]


def test_estimates_are_noisy_around_the_truth_and_always_the_same(write):
    scenario = load(write())
    first, second = list(scenario.jobs()), list(scenario.jobs())
    assert first == second
    assert all(0.05 < job.spec.duration_estimate_s / job.true_duration_s < 20 for job in first)
    assert any(job.spec.duration_estimate_s != job.true_duration_s for job in first)


def test_batch_jobs_of_many_cores_are_gangs(write):
    document = write(
        "scenario.toml",
        'format = "openb"\noffset_s = 1000',
        'format = "arrival-length-cpus"\ntask_cpu_max = 32\nsuspendable = true',
    )
    (document / "scenario.toml").write_text(
        (document / "scenario.toml").read_text().replace("{ BE = 24, LS = 0 }", "24")
    )
    (document / "jobs.csv").write_text("arrival_time,length,cpus\n0.5,2,1\n1,0.25,100\n")
    small, gang = load(document).jobs()
    assert (small.arrival_s, small.true_duration_s, small.spec.parallelism, small.spec.resources.cpu_milli) == (
        1800.0,
        7200.0,
        1,
        1000,
    )
    assert (gang.spec.parallelism, gang.spec.resources.cpu_milli, gang.spec.max_delay_s) == (4, 25_000, 86_400.0)
    assert gang.spec.suspendable
    assert (small.tenant, gang.tenant) == ("tenant-1", "tenant-3")  # crc32 of "0" and "1", mod 4


def test_background_traffic_goes_along_shortest_paths_and_repeats(write):
    scenario = load(write())
    assert scenario.link_rates(0) == {"berlin>hub": 1e9, "hub>berlin": 0.0, "hub>texas": 3e9, "texas>hub": 0.0}
    assert scenario.link_rates(60)["texas>hub"] == 40e9  # no more than the link carries
    assert scenario.link_rates(120) == scenario.link_rates(0)


def test_a_scenario_without_background_has_idle_links(write):
    scenario = load(write("scenario.toml", 'background = { file = "traffic.csv", period_s = 60 }\n'))
    assert set(scenario.link_rates(0).values()) == {0.0}


def test_a_site_may_have_a_battery(write):
    text = "battery = { capacity_wh = 5000, max_discharge_w = 2000, efficiency = 0.9 }\npower = { idle"
    battery = load(write("scenario.toml", "power = { idle", text)).sites[0].battery
    assert battery == Battery(capacity_wh=5000, charge_wh=5000, max_discharge_w=2000, efficiency=0.9)
    assert load(write()).sites[1].battery is None


def test_a_site_may_have_a_bound_on_its_price_also_below_zero(write):
    text = "price_bound_eur_per_mwh = {}\npower = {{ idle"
    assert load(write("scenario.toml", "power = { idle", text.format(-2.5))).sites[0].price_bound_eur_per_mwh == -2.5
    assert load(write()).sites[1].price_bound_eur_per_mwh is None


@pytest.mark.parametrize("value", ['"cheap"', "-inf", "nan"])
def test_a_bound_on_a_price_that_is_no_price_is_named(write, value):
    text = f"price_bound_eur_per_mwh = {value}\npower = {{ idle"
    with pytest.raises(ScenarioError, match=r"price_bound_eur_per_mwh.*number"):
        load(write("scenario.toml", "power = { idle", text))

"""Who holds what under the quotas, on the command line."""

from typing import Any

from tests.unit.cli.cli_answers import AT, Solyx

TREE = {
    "site": "texas",
    "reported_at": AT,
    "capacity": {"cpu_milli": 64000, "gpu/A100": 8000, "gpu/A1000": 0},
    "accounts": [
        {
            "name": "research",
            "kind": "cohort",
            "share": 0.5,
            "figures": [{"resource": "cpu_milli", "guaranteed": 16000, "most": 16000, "held": 12000}],
        },
        {
            "name": "alone",
            "kind": "tenant",
            "figures": [{"resource": "gpu/A1000", "guaranteed": 1000, "most": 1000}],
        },
        {
            "name": "vision",
            "kind": "tenant",
            "cohort": "research",
            "share": 0.375,
            "waiting_jobs": 2,
            "figures": [
                {
                    "resource": "cpu_milli",
                    "guaranteed": 8000,
                    "most": 14500,
                    "held": 9500,
                    "borrowed": 1500,
                    "waiting": 4000,
                },
                {"resource": "gpu/A100", "guaranteed": 4000, "most": 4000, "lent": 2500},
            ],
        },
    ],
}


def test_quotas_show_who_holds_borrows_lends_and_waits_for_what(solyx: Solyx, gateway: Any) -> None:
    gateway.on("GET", "/v1/quotas", {"sites": [TREE]})
    lines = solyx("quotas", "--site", "texas", "--tenant", "vision").out.splitlines()
    assert dict(gateway.requests[-1].url.params) == {"site": "texas", "tenant": "vision"}
    assert "texas" in lines[0]
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if line.startswith("│")]
    assert rows == [
        ["research", "", "cores", "16.0", "12.0", "", "", "", "16.0", "50.0%"],
        ["research", "vision", "cores", "8.0", "9.5", "1.5", "", "4.0", "14.5", "37.5%"],
        ["", "", "gpu/A100", "4.0", "", "", "2.5", "", "4.0", ""],
        ["", "alone", "gpu/A1000 (no node has it)", "1.0", "", "", "", "", "1.0", "0.0%"],
    ]


def test_quotas_speak_json_and_say_so_where_there_are_none(solyx: Solyx, gateway: Any) -> None:
    gateway.on("GET", "/v1/quotas", {"sites": [TREE]})
    (document,) = solyx("quotas", "--json").documents
    assert document["accounts"][2]["figures"][0]["borrowed"] == 1500
    gateway.on("GET", "/v1/quotas", {"sites": []})
    answer = solyx("quotas")
    assert (answer.status, answer.out) == (0, "")
    assert "no site has quotas" in answer.err

"""How quotas are used, over HTTP, on a real database: the latest report of each site, and who sees what of it."""

from solyx.events import QuotaAccount, QuotaFigure, QuotasReported
from solyx.security import Role
from tests.gateway_app import Running, until
from tests.gateway_events import at


def account(name: str, kind: str = "tenant", cohort: str = "", held: int = 0) -> QuotaAccount:
    figures = (QuotaFigure(resource="cpu_milli", guaranteed=4000, most=8000, held=held),)
    return QuotaAccount(name=name, kind=kind, cohort=cohort, figures=figures)  # pyright: ignore[reportArgumentType]


def report(site: str, *accounts: QuotaAccount, seconds: float = 0) -> QuotasReported:
    return QuotasReported(site=site, capacity={"cpu_milli": 64000}, accounts=accounts, reported_at=at(seconds))


TREE = (
    account("all", "cohort"),
    account("labs", "cohort", "all"),
    account("rest", "cohort", "all"),
    account("acme", cohort="labs", held=3000),
    account("umbra", cohort="rest", held=5000),
)


async def test_the_latest_report_of_each_site_is_shown_to_each_as_far_as_it_concerns_it(solyx: Running) -> None:
    solyx.publish(
        report("oslo", *TREE, seconds=2),
        report("oslo", account("stale"), seconds=1),
        report("bergen", account("acme")),
        report("gone", account("acme")),
        report("gone", seconds=3),  # its quotas were taken away
    )
    async with solyx.client("admin", Role.ADMIN) as admin, solyx.client("acme", Role.VIEWER) as acme:

        async def arrived() -> bool:
            return len((await admin.get("/v1/quotas")).json()["sites"]) == 2

        await until(arrived)
        bergen, oslo = (await admin.get("/v1/quotas")).json()["sites"]
        assert (bergen["site"], oslo["site"]) == ("bergen", "oslo")
        assert [one["name"] for one in oslo["accounts"]] == ["all", "labs", "rest", "acme", "umbra"]
        (only,) = (await admin.get("/v1/quotas?site=oslo&tenant=umbra")).json()["sites"]
        assert [one["name"] for one in only["accounts"]] == ["all", "rest", "umbra"]
        (own,) = (await acme.get("/v1/quotas?site=oslo")).json()["sites"]
        assert [one["name"] for one in own["accounts"]] == ["all", "labs", "acme"]
        assert own["accounts"][2]["figures"][0]["held"] == 3000
        assert (await acme.get("/v1/quotas?tenant=umbra")).status_code == 403
        assert (await admin.get("/v1/quotas?sight=oslo")).json()["errors"][0]["field"] == "sight"
        assert (await admin.get("/v1/quotas?site=nowhere")).json() == {"sites": []}

"""``solyx deadletters``: what no service could read, and back into its topic with it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from solyx.bus.worker import DeadLetter, parse_dead_letter
from solyx.cli import connection as connections
from solyx.cli import views
from solyx.cli.output import console, errors, print_json, print_table
from solyx.clock import WallClock
from solyx.command import though_unread
from solyx.events import Poison, Record, decode
from solyx.topics import BY_NAME, DEADLETTERS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from solyx.bus.kafka import KafkaBus

app = typer.Typer(help="List, show and replay dead letters.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="JSON for programs instead of a table.")]
Kafka = Annotated[
    str | None, typer.Option("--kafka", help="Bootstrap servers; default $SOLYX_KAFKA_BOOTSTRAP_SERVERS.")
]
Place = Annotated[str, typer.Argument(metavar="TOPIC/PARTITION/OFFSET", help="As listed.")]


def _place(letter: DeadLetter) -> str:
    return f"{letter.topic}/{letter.partition}/{letter.offset}"


def _document(letter: DeadLetter) -> dict[str, object]:
    """For programs: headers and value as text."""
    return {
        "place": _place(letter),
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "key": letter.key,
        "error": letter.error,
        "service": letter.service,
        "time": letter.time,
        "headers": {name: value.decode(errors="replace") for name, value in letter.headers},
        "value": letter.value.decode(errors="replace") if letter.value is not None else None,
    }


def _letters(bus: KafkaBus) -> dict[str, DeadLetter]:
    """Each unreadable record once, however many services parked it."""
    letters: dict[str, DeadLetter] = {}
    for received in views.read_topic(bus, DEADLETTERS.name, follow=False):
        letter = parse_dead_letter(received)
        letters.setdefault(_place(letter), letter)
    return letters


def _open(kafka: str | None) -> KafkaBus:
    return views.open_bus(connections.find(url=None, key=None, kafka=kafka).kafka_bootstrap_servers)


@app.command("list")
def list_letters(json: Json = False, kafka: Kafka = None) -> None:
    """List dead letters with their errors."""
    letters = _letters(_open(kafka))
    if json:
        for letter in letters.values():
            print_json(_document(letter))
        return
    print_table(
        ("place", "key", "parked by", "when", "error"),
        ((place, x.key, x.service, x.time, x.error) for place, x in letters.items()),
    )


@app.command()
def show(place: Place, json: Json = False, kafka: Kafka = None) -> None:
    """Show one dead letter: headers, bytes and error."""
    letter = _find(_letters(_open(kafka)), place)
    if json:
        print_json(_document(letter))
        return
    console.print(f"{place}  key {letter.key}  parked by {letter.service} at {letter.time}", markup=False)
    console.print(letter.error, style="red", markup=False)
    for name, value in letter.headers:
        console.print(f"  {name}: {value.decode(errors='replace')}", markup=False, highlight=False)
    console.print((letter.value or b"").decode(errors="replace"), markup=False)


@app.command()
def replay(
    places: Annotated[list[str] | None, typer.Argument(metavar="[TOPIC/PARTITION/OFFSET…]", help="As listed.")] = None,
    all_letters: Annotated[bool, typer.Option("--all", help="Every dead letter.")] = False,
    rate: Annotated[float, typer.Option(help="At most so many a second.", min=0.1)] = 100.0,
    json: Json = False,
    kafka: Kafka = None,
) -> None:
    """Put dead letters back into their topics, with their headers and ids, marked as replayed. Exit 2 when some could not be."""
    if bool(places) == all_letters:
        errors.print("name the dead letters to replay, or give --all", style="red")
        raise typer.Exit(2)
    bus = _open(kafka)
    letters = _letters(bus)
    chosen = list(letters.values()) if all_letters else [_find(letters, place) for place in places or ()]
    going, staying = [x for x in chosen if _has_a_way_back(x)], [x for x in chosen if not _has_a_way_back(x)]
    _put_back(bus, going, rate, as_json=json)
    for letter in staying:
        why = "; ".join(filter(None, ["it is of no topic that it could go back to", letter.error]))
        with though_unread():
            if json:
                print_json({"not_replayed": _place(letter), "why": why})
        errors.print(f"{_place(letter)} stays parked: {why}", style="red", markup=False)
    if staying:
        errors.print(f"{len(going)} replayed, {len(staying)} not", style="red", highlight=False)
        raise typer.Exit(2)


def _has_a_way_back(letter: DeadLetter) -> bool:
    return letter.topic in BY_NAME and letter.topic != DEADLETTERS.name


def _put_back(bus: KafkaBus, chosen: Sequence[DeadLetter], rate: float, *, as_json: bool) -> None:
    publisher = bus.publisher(name="deadletters")
    try:
        for letter in chosen:
            publisher.publish([_record(letter)])
            with though_unread():
                if as_json:
                    print_json({"replayed": _place(letter)})
                else:
                    console.print(f"replayed {_place(letter)}", highlight=False)
            if len(chosen) > 1:
                time.sleep(1 / rate)
    finally:
        publisher.close()


def _record(letter: DeadLetter) -> Record:
    """The original record. Its order among the others of its partition is the one of today."""
    marks = [
        ("solyx_replayed_from", _place(letter).encode()),
        ("solyx_replayed_at", WallClock().now().isoformat().encode()),
    ]
    return Record(letter.topic, letter.key, _ordering_key(letter), letter.value, [*letter.headers, *marks])


def _ordering_key(letter: DeadLetter) -> str:
    """What chose its partition: the event knows, where it can be read by now; else its key as most are made.

    In another partition than the other records of its key, compaction would keep it besides them.
    """
    try:
        if letter.value is not None:
            return decode(letter.value, letter.headers).event.ordering_key
    except Poison:
        pass
    return letter.key.split("/", 1)[0] if "/" in BY_NAME[letter.topic].keyed_by else letter.key


def _find(letters: dict[str, DeadLetter], place: str) -> DeadLetter:
    if place not in letters:
        errors.print(f"no dead letter {place}; see solyx deadletters list", style="red", markup=False)
        raise typer.Exit(4)
    return letters[place]

"""The telephone's command line.

It turns options into plans, runs the calls, and prints what came of them; it knows nothing of the pool.
"""

import asyncio
import itertools
import json
import signal
from pathlib import Path
from typing import Any

import click

from simulator.phone.address import local_address
from simulator.phone.plan import CallPlan, CallReport, Codec, DtmfMethod, Refer, Transport
from simulator.phone.speech import SpeechError, from_wav, say, sentence

KEYS = "0123456789*#ABCD"


@click.group()
def main() -> None:
    """A SIP telephone that speaks, listens and writes down what it heard."""


@main.command()
@click.argument("target", metavar="SIP_URI")
@click.option(
    "--say",
    "texts",
    multiple=True,
    metavar="TEXT",
    help="What the caller says, spoken by espeak-ng; {n} becomes the call's number. Given several times: one "
    "for each turn. Default: a sentence that no other call says.",
)
@click.option("--wav", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Speak this file instead.")
@click.option("--voice", default="en", show_default=True, help="Voice of espeak-ng.")
@click.option(
    "--codec",
    type=click.Choice([codec.value for codec in Codec]),
    default=Codec.ANY.value,
    show_default=True,
    help="What is offered.",
)
@click.option(
    "--transport",
    type=click.Choice([transport.value for transport in Transport]),
    default=Transport.UDP.value,
    show_default=True,
    help="What SIP goes over.",
)
@click.option("--calls", type=click.IntRange(1, 500), default=1, show_default=True, help="Calls at once.")
@click.option("--stagger-ms", type=click.IntRange(0), default=0, show_default=True, help="Pause between two INVITEs.")
@click.option(
    "--turns",
    type=click.IntRange(0, 100),
    default=None,
    help="Times the caller speaks and is answered. Default: once for each --say.",
)
@click.option("--greeting/--no-greeting", default=True, show_default=True, help="Wait for the greeting to be over.")
@click.option(
    "--ring-timeout",
    "ring_timeout_s",
    type=float,
    default=20.0,
    show_default=True,
    help="Longest wait for 200 OK, in seconds.",
)
@click.option(
    "--greeting-timeout",
    "greeting_timeout_s",
    type=float,
    default=10.0,
    show_default=True,
    help="Longest wait for the greeting to begin, in seconds.",
)
@click.option(
    "--answer-timeout",
    "answer_timeout_s",
    type=float,
    default=15.0,
    show_default=True,
    help="Longest wait for an answer to begin, in seconds.",
)
@click.option(
    "--talk-over-after",
    "talk_over_after_s",
    type=float,
    default=None,
    help="Speak again this many seconds into the first answer, instead of hearing it out.",
)
@click.option(
    "--hangup-after",
    "hangup_after_s",
    type=float,
    default=None,
    help="Hang up this many seconds after the call was answered.",
)
@click.option(
    "--cancel-after", "cancel_after_s", type=float, default=None, help="CANCEL this many seconds after the INVITE."
)
@click.option("--hold-until-bye", is_flag=True, help="After the last turn, wait for the other side to hang up.")
@click.option(
    "--hold",
    "hold_s",
    type=click.FloatRange(0),
    default=0.0,
    help="After the last turn, stay silent for so many seconds.",
)
@click.option(
    "--dtmf",
    "digits",
    metavar="DIGITS",
    default="",
    help="Keys (0-9*#A-D) pressed after the greeting, before anything is said; without --say and --turns, nothing is. "
    "Their answer is heard out, unless the call is held.",
)
@click.option(
    "--dtmf-after",
    "digits_after_s",
    type=click.FloatRange(0),
    default=None,
    help="Press the keys this many seconds after the call was answered, whatever is being said.",
)
@click.option(
    "--dtmf-method",
    type=click.Choice([method.value for method in DtmfMethod]),
    default=DtmfMethod.RFC4733.value,
    show_default=True,
    help="How keys are sent.",
)
@click.option(
    "--cough", "cough_ms", type=click.IntRange(0, 5000), default=0, help="Length of a noise in the first answer."
)
@click.option(
    "--noise-after",
    "cough_after_s",
    type=click.FloatRange(0),
    default=1.0,
    show_default=True,
    help="Seconds into the first answer at which --cough is heard.",
)
@click.option(
    "--refer",
    type=click.Choice([refer.value for refer in Refer]),
    default=Refer.REJECT.value,
    show_default=True,
    help="What becomes of a REFER: 202 and NOTIFYs with 200 (accept) or 486 (busy), 202 and no outcome (ignore), "
    "202 and hanging up (bye), or 603 (reject).",
)
@click.option("--header", "headers", multiple=True, metavar="'NAME: VALUE'", help="Header of the INVITE; repeatable.")
@click.option("--from-user", default="caller", show_default=True, help="User part of From.")
@click.option(
    "--record",
    "record_dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("recordings"),
    show_default=True,
    help="Directory the recordings are written to.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
@click.pass_context
def call(context: click.Context, /, record_dir: Path, as_json: bool, **options: Any) -> None:
    """Dials SIP_URI, hears the greeting, speaks, hears the answer and hangs up."""
    try:
        address = local_address(options["target"])
        plans = [_plan(number, options) for number in range(options["calls"])]
    except (SpeechError, ValueError) as error:
        raise click.UsageError(str(error)) from error
    record_dir.mkdir(parents=True, exist_ok=True)
    reports = asyncio.run(_run(plans, address, options, record_dir))
    failed = [report.reason for report in reports if not report.ok]
    reason = f"{len(failed)} of {len(reports)} calls failed: {failed[0]}" if failed else "ok"
    if as_json:
        result = {"ok": not failed, "reason": reason, "calls": [report.as_json() for report in reports]}
        click.echo(json.dumps(result))
    else:
        for number, report in enumerate(reports):
            click.echo(_readable(number, report))
    context.exit(1 if failed else 0)


def _plan(number: int, options: dict[str, Any]) -> CallPlan:
    texts, turns = options["texts"], options["turns"]
    count = (len(texts) or (0 if options["digits"] and not options["wav"] else 1)) if turns is None else turns
    if options["talk_over_after_s"] is not None and count < 2:
        raise click.UsageError("--talk-over-after needs two turns: give --say twice, or --turns 2")
    if options["wav"]:
        utterances = [from_wav(options["wav"])] * count
    else:
        # A second turn without words of its own says what some other call would: never the same thing twice in a row.
        spoken = itertools.cycle(texts) if texts else (sentence(number + turn * 17) for turn in itertools.count())
        lines = (_numbered(line, number, options["calls"]) for line in itertools.islice(spoken, count))
        utterances = [say(line, options["voice"]) for line in lines]
    if set(options["digits"].upper()) - set(KEYS):
        raise click.UsageError(f"--dtmf takes {KEYS}")
    fields = (
        "target",
        "greeting",
        "ring_timeout_s",
        "greeting_timeout_s",
        "answer_timeout_s",
        "talk_over_after_s",
        "cancel_after_s",
        "hangup_after_s",
        "hold_until_bye",
        "hold_s",
        "digits",
        "digits_after_s",
        "cough_ms",
        "cough_after_s",
    )
    return CallPlan(
        utterances=tuple(utterances),
        dtmf_method=DtmfMethod(options["dtmf_method"]),
        headers=tuple(map(_header, options["headers"])),
        **{name: options[name] for name in fields},
    )


def _header(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    if not colon or not name.strip() or not line.isprintable():
        raise click.UsageError("--header takes 'NAME: VALUE'")
    return name.strip(), value.strip()


def _numbered(text: str, number: int, calls: int) -> str:
    """Returns the text with the call's number in it: no two of several calls say the same."""
    return text.replace("{n}", str(number)) if "{n}" in text or calls == 1 else f"{text} {number}"


async def _run(plans: list[CallPlan], address: str, options: dict[str, Any], record_dir: Path) -> list[CallReport]:
    # Only here: the options can be checked, and --help read, without pjsua2.
    from simulator.phone.conversation import Conversation
    from simulator.phone.telephone import Telephone

    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    codec, user, refer = Codec(options["codec"]), options["from_user"], Refer(options["refer"])
    transport = Transport(options["transport"])
    async with Telephone(address, codec, len(plans), user=user, refer=refer, transport=transport) as telephone:
        calls = []
        for number, plan in enumerate(plans):
            conversation = Conversation(telephone, plan, record_dir / f"call-{number}.wav")
            calls.append(asyncio.create_task(conversation.run()))
            await asyncio.sleep(options["stagger_ms"] / 1000)
        return await asyncio.gather(*calls)


def _readable(number: int, report: CallReport) -> str:
    lines = [f"call {number}: {'good' if report.ok else 'BAD'}: {report.reason}"]
    begin = report.marks.get("invite", 0.0)
    lines += [f"  {at - begin:8.0f} ms  {name}" for name, at in sorted(report.marks.items(), key=lambda mark: mark[1])]
    if report.correlation is not None:
        lines.append(
            f"  answer: correlation {report.correlation:.3f} with what was said, "
            f"longest gap {report.longest_gap_ms:.1f} ms"
        )
    if report.recording:
        lines.append(f"  recording: {report.recording}")
    return "\n".join(lines)

"""What the end of a vendor's own process usually means, and what to type next."""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass

from positronic.errors import PositronicError, clipped
from positronic.upstream.child import Ended

TRACEBACK = "Traceback (most recent call last)"
RANK = re.compile(r"^\[rank\d+\]: ?")  # torch begins a line so in a run of several processes
BOX = re.compile(r"[\u2500-\u257f]+")  # frames around the messages of a command line
NOISE = re.compile(r"\d+%\||it/s|s/it|Warning: |WARNING|^\s*warnings\.warn|^\s*$")
TOLD_LINES = 3
MAX_LINE = 500


class ChildError(PositronicError):
    """A vendor's own process has failed."""


@dataclass(frozen=True)
class Symptom:
    """``text``: a regular expression that is searched in the last lines. ``meaning``: a sentence of what it usually
    means. ``remedy``: a sentence of what to do."""

    text: str
    meaning: str
    remedy: str


SYMPTOMS = (
    Symptom(
        r"CUDA out of memory|OutOfMemoryError|RESOURCE_EXHAUSTED|CUDA_ERROR_OUT_OF_MEMORY",
        "The memory of the GPU was not enough.",
        "Take a smaller batch, batch_size=<fewer>, or end what else is on the GPU (`nvidia-smi` names it).",
    ),
    Symptom(
        r"GatedRepoError|gated repo|\b40[13] (?:Client Error|Unauthorized|Forbidden)",
        "The weights are gated, and this account may not fetch them.",
        "Accept the licence on the model's page, then log in with `hf auth login`.",
    ),
    Symptom(
        r"Address (?:already )?in use|EADDRINUSE|\[Errno 98\]",
        "Another program listens on the port.",
        "End it (`ss -ltnp` names it), or take another port.",
    ),
    Symptom(
        r"No space left on device|\[Errno 28\]|Disk quota exceeded",
        "The disk is full.",
        "Make room, or write elsewhere: output_dir=<folder on another disk>.",
    ),
    Symptom(
        r"(?i)norm(?:alization)?[ _]stats not found|norm_stats\.json",
        "The statistics of the dataset are missing.",
        "Make them with stage=stats.",
    ),
    Symptom(
        r"libtorchcodec",
        "torchcodec finds no libraries of FFmpeg.",
        "Install FFmpeg 4 to 7 (`apt install ffmpeg`), or name the folder of its libraries in LD_LIBRARY_PATH.",
    ),
    Symptom(
        r"(?i)unrecognized (?:options|arguments)|required options",
        "This version of the vendor's code takes other options than the one that this was written for.",
        "Check out the commit that docs/upstream.md names.",
    ),
    Symptom(
        r"LocalEntryNotFoundError|couldn't connect to 'https://huggingface|OfflineModeIsEnabled",
        "The Hugging Face hub cannot be reached, and its cache on this machine lacks something.",
        "Fetch it once where there is a network, `hf download <name>`, or bring that cache (HF_HOME).",
    ),
    Symptom(
        r"tokenizer\.model|paligemma_tokenizer|(?i:can't load tokenizer)",
        "The tokenizer's file is missing, and could not be fetched.",
        "Put it into the cache of the vendor's code once, on a machine with a network.",
    ),
    Symptom(
        r"ModuleNotFoundError|ImportError",
        "The vendor's environment is not complete.",
        "Install it again as the vendor's own pages say, or name another interpreter: vendor.python=<path>.",
    ),
)
KILLED = "It was killed, usually by the system, which had no memory left."
KILLED_REMEDY = "Take fewer processes or a smaller batch, num_workers=<fewer> batch_size=<fewer>, or a larger machine."


def failure(ended: Ended, what: str, symptoms: Sequence[Symptom] = ()) -> ChildError:
    """The error to raise for ``what`` that ended: exit code, lines that matter, usual meaning, what to do, and the log.

    ``symptoms``: the vendor's own, which are looked at first.
    """
    return ChildError("\n".join([f"{what} {_how(ended.code)}.", *_told(ended, symptoms)]))


def not_ready(ended: Ended, what: str, seconds: float, parameter: str) -> ChildError:
    """The error to raise for a server that had not become ready in ``seconds``, a bound that ``parameter`` sets, and
    was ended."""
    lines = [f"{what} was not ready within {seconds:g} s.", *(f"  {line}" for line in telling(ended.lines))]
    lines += [f"If it only needs longer, type {parameter}=<more seconds>.", f"All that it printed is in {ended.log}"]
    return ChildError("\n".join(lines))


def telling(lines: Sequence[str]) -> list[str]:
    """The lines that matter: the exception at the end of the last traceback, the text of a framed message, or the last
    lines without those of a progress bar."""
    lines = [RANK.sub("", line) for line in lines]
    last = max((number for number, line in enumerate(lines) if TRACEBACK in line), default=None)
    if last is not None:
        found = [line for line in lines[last + 1 :] if line.strip() and not line.startswith(" ")][:TOLD_LINES]
    else:
        framed = [line for line in lines if BOX.search(line)]
        found = [line for line in framed or lines if not NOISE.search(BOX.sub("", line))][-TOLD_LINES:]
    return [clipped(BOX.sub("", line).strip(), MAX_LINE) for line in found]


def find_symptom(lines: Sequence[str], symptoms: Sequence[Symptom] = ()) -> Symptom | None:
    """The first that fits the lines that matter, or else any line."""
    for text in ("\n".join(telling(lines)), "\n".join(lines)):
        for symptom in (*symptoms, *SYMPTOMS):
            if re.search(symptom.text, text):
                return symptom
    return None


def _told(ended: Ended, symptoms: Sequence[Symptom]) -> list[str]:
    lines = [f"  {line}" for line in telling(ended.lines)]
    symptom = find_symptom(ended.lines, symptoms)
    if symptom is not None:
        lines.append(f"{symptom.meaning} {symptom.remedy}")
    elif ended.code in (-signal.SIGKILL, 128 + signal.SIGKILL):
        lines.append(f"{KILLED} {KILLED_REMEDY}")
    return [*lines, f"All that it printed is in {ended.log}"]


def _how(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was ended by signal {-code} ({signal.Signals(-code).name}), exit code {code}"
    except ValueError:  # a real-time signal
        return f"was ended by signal {-code}, exit code {code}"

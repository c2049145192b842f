"""The record of a finished run: its fields, their units, and what is wrong with one that does not hold them.

`RunStore` (mkdcls.engine.store) is the only place that writes and reads records, as `record.json`, and asks `fault`
both times. In Python a record is a plain dictionary; the classes below say what is in it. What was added after the
first recorded runs is marked `NotRequired`, so that old records load.
"""
import math
from typing import NotRequired, TypedDict, get_args, get_origin, get_type_hints, is_typeddict


class Epoch(TypedDict):
    """One epoch of training; beside these fields, the mean over utterances of every entry of the ledger (losses in
    nats, accuracies as shares)"""
    epoch: int  # from 1
    lr: float  # learning rate
    seconds: float  # of work, interruptions left out


class Provenance(TypedDict):
    "What a result was made with and on; no part of its identity"
    commit: str  # of the code that was loaded, with a + where it was changed; empty outside a checkout
    device: str  # processor and threads, or GPU
    python: str  # version
    finished: str  # date and time (UTC, ISO 8601)
    versions: dict[str, str]  # package → version


class Outcome(TypedDict):
    "What training and asking a row gives, whoever makes it (`BaseRunner.make`)"
    curves: list[Epoch]  # in order; empty for a row that is not trained
    metrics: dict[str, float]  # on the test part: F1, precision, recall, accuracy and EER in percent, minDCF normalised
    params: int  # numbers in the weights of the whole model, a frozen teacher included
    utterances: dict[str, int]  # 'train', 'test' and so on → how many; 'copies' of each training utterance
    student_params: NotRequired[int]  # of Table 1's rows: numbers in the student's weights alone
    test_speakers: NotRequired[int]  # of Table 1's rows
    speakers: NotRequired[dict[str, int]]  # of speaker systems: 'train', 'test' → how many
    trials: NotRequired[int]  # of speaker systems: lines of the table of answers


class Record(Outcome):
    "A finished run"
    row: str  # its name in the plan
    seed: int  # 0 or more
    key: str  # digest of `identity`
    identity: dict  # what makes it this run: recipe or system, seed, data, protocol, code, parents
    preset: str  # declared size
    corpus: str  # 'standin', 'real', or the name of a file
    train_s: float  # seconds of training
    total_s: float  # seconds of this and of loading and asking, since the last start
    provenance: Provenance
    knobs: NotRequired[dict]  # changes of the stand-in that are not the protocol's; nothing turned: {}


NAMES = {str: "a text", int: "a whole number", float: "a number"}


def _differs(value, kind, at: str) -> str:
    "Where a value is not of a kind, in words; empty where it is"
    if is_typeddict(kind):
        if not isinstance(value, dict): return f"{at or 'it'} is not an object"
        for field, inner in get_type_hints(kind).items():
            name = f"{at}.{field}" if at else field
            if field in value:
                if why := _differs(value[field], inner, name): return why
            elif field in kind.__required_keys__: return f"it has no {name}"
        return ""
    outer, inside = get_origin(kind), get_args(kind)
    if outer is list:
        if not isinstance(value, list): return f"{at} is not a list"
        return next((why for i, v in enumerate(value) if (why := _differs(v, inside[0], f"{at}[{i}]"))), "")
    if outer is dict or kind is dict:
        if not isinstance(value, dict): return f"{at} is not an object"
        return next((why for k, v in value.items() if inside and (why := _differs(v, inside[1], f"{at}.{k}"))), "")
    fits = isinstance(value, (int, float) if kind is float else kind) and not isinstance(value, bool)
    return "" if fits else f"{at} is {value!r:.60}, not {NAMES[kind]}"


def fault(record) -> str:
    """What keeps this from being a `Record`, in words; empty where nothing does

    Fields that are not listed are let pass: newer code may have written them.
    """
    if why := _differs(record, Record, ""): return why
    for name in ("seed", "params", "train_s", "total_s"):
        if not 0 <= record[name] < math.inf: return f"{name} is {record[name]!r}, not 0 or more"
    if [e["epoch"] for e in record["curves"]] != list(range(1, len(record["curves"]) + 1)):
        return "its curves are not those of epochs 1, 2, ..."
    return ""

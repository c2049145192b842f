"A whole record, made by hand: what tests of the store write"
WHERE = dict(commit="c0ffee000000", device="a machine", python="3.11.7", finished="2026-01-01T00:00:00+00:00", versions=dict(torch="2.0"))


def record(row="3", seed=0, key="abc", **more) -> dict:
    "Of two epochs; `more` adds fields or changes them, None takes one away"
    curves = [dict(epoch=e, lr=1e-3, seconds=2.5, total=1. / e) for e in (1, 2)]
    whole = dict(row=row, seed=seed, key=key, identity=dict(code={}), preset="smoke", corpus="standin", knobs={}, curves=curves, metrics=dict(f1=61.5), params=12,
                 student_params=8, train_s=5., total_s=9.5, utterances=dict(train=40, test=2), test_speakers=2, provenance=WHERE) | more
    return {k: v for k, v in whole.items() if v is not None}

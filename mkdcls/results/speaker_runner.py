"""Runs of the two verification sheets

What a row is and when a run is the same run is mkdcls.verification.systems (page 28).
"""
from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from mkdcls.intake.features import placed
from mkdcls.results.runner import BaseRunner
from mkdcls.intake.speakers import speaker_features
from mkdcls.engine.record import Outcome
from mkdcls.engine.store import digest, write_tensors, write_weights
from mkdcls.verification.phrases import fit_phrases, phrase_answers, phrase_bias
from mkdcls.verification.scores import eer, enrol, min_dcf, score
from mkdcls.verification.speakers import trial_index
from mkdcls.verification.systems import COSTS, RULE, build, identity, own_treatment, role_lists, speaker_preset_of
from mkdcls.verification.training import SpeakerData, embed_all, fit_speakers, fused, transfer

EMBEDDINGS = "embeddings.safetensors"


class SpeakerRunner(BaseRunner):
    "Rows of the two verification sheets: a row is a `System`, a file of lists names its corpora"

    preset_of = staticmethod(speaker_preset_of)

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._lists = {}
        self.treatment = own_treatment(self.corpus) if self.corpus not in ("standin", "real") else {}

    def parents(self, row: str) -> list[str]:
        "The row it starts from, the phrase network, the networks it learns from"
        s = self.rows[row]
        return [p for p in dict.fromkeys((s.start, s.phrases, *s.teachers)) if p]

    def _listed(self, row: str, seed: int):
        s = self.rows[row]
        at = (s.role, rule := RULE[s.sheet, s.role], seed)
        if at not in self._lists:
            found = role_lists(s.role, rule, self.preset, seed, self.corpus, self.recorded)
            self._lists = {k: v for k, v in self._lists.items() if k[2] == seed} | {at: found}
        return self._lists[at]

    def lists(self, row: str, seed: int):
        "Manifest, trials and enrolments of a row"
        return self._listed(row, seed)[0]

    def about(self, role: str, seed: int) -> dict:
        "What a role's data are known by, without hearing any of it; the same for both sheets"
        known = [about for (r, _, n), (_, about) in self._lists.items() if (r, n) == (role, seed)]
        return known[0] if known else self._listed(next(r for r, s in self.rows.items() if s.role == role), seed)[1]

    def test(self, row: str) -> dict:
        "How a row is tested"
        s = self.rows[row]
        rule = RULE[s.sheet, s.role]
        return dict(segments=self.preset.segments, frames=self.preset.frames, rule=rule,
                    trials=self.preset.trials[rule])

    def identity(self, row: str, seed: int, parents: dict[str, str]) -> dict:
        "What makes a run this run (page 28)"
        return identity(self.rows[row], seed, self.fingerprint(self.rows[row].role, seed), parents, self.test(row))

    def heard(self, row: str, seed: int) -> tuple:
        "Itself, for its role, the front end, the number of copies, and the seed"
        s = self.rows[row]
        return row, s.front, s.copies, seed

    def data(self, row: str, front: str, copies: int, seed: int):
        "Features of the training part (its copies behind it) and of the test part; the last pair stays in memory"
        role = self.rows[row].role
        if (at := (role, front, copies, seed)) not in self._corpora:
            m, mark = self.lists(row, seed).manifest, self.fingerprint(role, seed)
            parts = [(m[m["split"] == p].reset_index(drop=True), p, c) for p, c in (("train", copies), ("test", 0))]
            self._corpora = {
                at: [placed(speaker_features(part, digest([mark, p]), front, copies=c, say=self.say, **self.treatment,
                                             progress=partial(self.progress, f"seed {seed}: {front}, {role}, {p}")),
                            self.device) for part, p, c in parts]}
        return self._corpora[at]

    def embeddings(self, row: str, seed: int) -> dict[str, torch.Tensor]:
        "Of a finished run: `test` `[n, S, E]`, `train` `[N, E]` (copies behind), each of length 1"
        return self.weights(row, seed, EMBEDDINGS)

    def index(self, row: str, seed: int):
        "A row's trials as numbers; rows are those of the test part"
        m, trials, enrolled = self.lists(row, seed)
        return trial_index(trials, enrolled, m[m["split"] == "test"].reset_index(drop=True))

    def trial_scores(self, row: str, seed: int, segments: torch.Tensor) -> np.ndarray:
        "Scores of a row's trials from embeddings `[n, S, E]`, without a look at the phrase"
        i, long = self.index(row, seed), lambda a: torch.from_numpy(np.asarray(a, np.int64))
        models = enrol(segments[long(i.enrol_rows)], long(i.enrol_model))
        return score(models, segments[long(i.test_rows)], long(i.model), long(i.test)).numpy()

    def biased(self, row: str, seed: int, scores: np.ndarray) -> np.ndarray:
        "Scores after the phrase network has had its say; those of a row without one stay"
        if (p := self.rows[row].phrases) is None: return scores
        said = self.store.predictions(p, seed, self.key(p, seed)[1]).set_index("utterance")["said"]
        _, trials, enrolled = self.lists(row, seed)
        asked = enrolled.drop_duplicates("model").set_index("model")["phrase"]
        return phrase_bias(scores, said.loc[trials["utterance"]].to_numpy(), asked.loc[trials["model"]].to_numpy())

    def make(self, row: str, seed: int, folder: Path, kept: dict) -> tuple[Outcome, pd.DataFrame]:
        "Trains and asks"
        s = self.rows[row]
        train, test = self.data(*self.heard(row, seed))
        m = self.lists(row, seed).manifest
        learnt, asked = (m[m["split"] == p].reset_index(drop=True) for p in ("train", "test"))
        rows = torch.arange(len(train))
        if s.network == "phrases":
            phrase = torch.from_numpy(np.tile(learnt["phrase"].to_numpy(np.int64), 1 + s.copies))
            net, _ = build(s, seed, int(phrase.max()) + 1)
            net.to(self.device)
            curves = fit_phrases(net, train, phrase, rows, s.settings, seed, **kept)
            table = pd.DataFrame(dict(utterance=asked["utterance"], phrase=asked["phrase"],
                                      said=phrase_answers(net, test).numpy()))
            known = table[table["phrase"] >= 0]  # a challenge does not say what its test utterances say
            metrics = dict(accuracy=100 * float((known["phrase"] == known["said"]).mean()))
        else:
            people = torch.from_numpy(np.tile(pd.factorize(learnt["speaker"])[0].astype(np.int64), 1 + s.copies))
            net, head = build(s, seed, int(people.max()) + 1)
            frozen = transfer(net, self.weights(s.start, seed) if s.start else None, s.mode)
            targets = (fused([self.embeddings(p, seed)["train"] for p in s.teachers]).to(self.device) if s.teachers
                       else None)
            curves = fit_speakers(net, head, SpeakerData(train, people, rows), s.settings, seed, targets=targets,
                                  distil=s.distil, frozen=frozen, **kept)
            segments, whole = (embed_all(net, f, torch.arange(len(f)), self.preset.frames, n,
                                         precision=s.settings.precision).cpu()
                               for f, n in ((test, self.preset.segments), (train, 1)))
            write_tensors(folder / EMBEDDINGS, dict(test=segments, train=whole[:, 0].contiguous()))
            plain = self.trial_scores(row, seed, segments)
            table = self.lists(row, seed).trials.assign(score=self.biased(row, seed, plain))
            metrics = measures(table["score"], table["target"], s.sheet)
            if s.phrases is not None:
                metrics |= {f"{k}_any_phrase": v for k, v in measures(plain, table["target"], s.sheet).items()}
        write_weights(folder / "model.safetensors", net)
        return Outcome(curves=curves, metrics=metrics, params=sum(p.numel() for p in net.parameters()),
                       utterances=dict(train=len(learnt), copies=s.copies, test=len(asked)),
                       speakers={k: int(v["speaker"].nunique()) for k, v in (("train", learnt), ("test", asked))},
                       trials=len(table)), table


def measures(scores, target, sheet: str) -> dict[str, float]:
    "EER in percent and normalised minDCF, at the sheet's costs"
    return dict(eer=float(eer(scores, target)), min_dcf=float(min_dcf(scores, target, **COSTS[sheet])))

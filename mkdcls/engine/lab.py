"""What `make lab` adds to JupyterLab: code cells with certain tags come with their source folded, their outputs in
sight.

JupyterLab folds no cell by its tag; it folds a cell whose metadata say `jupyter: {source_hidden: true}`.
`FoldedContents` writes that into the notebook that it hands to the lab, and takes it out of the notebook that the lab
hands back. A click on the bar that stands for a folded cell unfolds it. Opening a page and saving it leaves its file as
it was, byte for byte.
"""
from jupyter_server.services.contents.largefilemanager import AsyncLargeFileManager
from tornado.web import HTTPError

FOLDED = {  # tags of code cells that a reader may pass over
    "setup",  # imports, settings, helpers for pictures, what only the export needs
    "how-it-fails",  # wrong calls and the errors that they raise
    "hide-input",  # only the output is meant to be read; Jupyter Book knows this tag too
}
FOLD_MARK = "folded_by_tag"  # beside `source_hidden`, says that `fold` wrote it and `unfold` may take it away


def fold(
    nb: dict, # notebook of nbformat 4, changed in place
) -> None:
    "Hide the source of code cells with a tag of `FOLDED`, but for those that say themselves whether it is hidden"
    for cell in nb["cells"]:
        about = cell["metadata"].get("jupyter", {})
        if (cell["cell_type"] == "code" and FOLDED & {*cell["metadata"].get("tags", [])}
            and "source_hidden" not in about):
            cell["metadata"]["jupyter"] = {**about, "source_hidden": True, FOLD_MARK: True}


def unfold(
    nb: dict, # notebook as the lab hands it back, changed in place
) -> None:
    "Undo `fold`"
    for cell in nb.get("cells", []):
        about = cell.get("metadata", {}).get("jupyter", {})
        if not about.pop(FOLD_MARK, False): continue
        about.pop("source_hidden", None)
        if not about: del cell["metadata"]["jupyter"]


def keep_kernel(
    nb: dict, # notebook as the lab hands it back, changed in place
    stored: dict, # the notebook of the same name on disk
) -> None:
    """As long as the kernel is the same, what the lab has learnt about it (language, version, its title here) is
    not saved"""
    now, before = nb.get("metadata", {}), stored["metadata"]
    if now.get("kernelspec", {}).get("name") != before.get("kernelspec", {}).get("name"): return
    for key in ("kernelspec", "language_info"):
        if key in before: now[key] = before[key]
        else: now.pop(key, None)


class FoldedContents(AsyncLargeFileManager):
    "The files as they are on disk, but for the folds"

    async def get(self, path, *args, **kwargs):
        model = await super().get(path, *args, **kwargs)
        if model["type"] == "notebook" and model["content"]: fold(model["content"])
        return model

    async def save(self, model, path=""):
        if model.get("type") == "notebook" and model.get("content"):
            unfold(model["content"])
            try: keep_kernel(model["content"], (await super().get(path, type="notebook"))["content"])
            except HTTPError: pass  # there is no such file yet, or none that can be read
        return await super().save(model, path)

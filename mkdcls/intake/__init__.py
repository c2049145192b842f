"""What comes in: corpora made ready, and the features of their utterances

Hand-written; uses the pages, is used by `mkdcls.results`.
"""

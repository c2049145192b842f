"""What comes out: runs of rows, sheets of results, pictures, the README, the command line

Hand-written; uses the pages and `mkdcls.intake`.
"""

"""What is made of the results for readers without a clone: the article, the poster, the site

Hand-written; uses everything below it, is used by nothing.
"""

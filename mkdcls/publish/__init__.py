"""What readers get who clone nothing: the site, and whatever else is made from pages and committed records

Hand-written; reads files, imports no page and trains nothing.
"""

"""Who acts: users, organisations, memberships, tokens; and the one function that says who may do what.

`permissions.py` decides, `accounts.py` makes and finds accounts and tokens. Imported by repos, api, web and `lmc hub`.
"""

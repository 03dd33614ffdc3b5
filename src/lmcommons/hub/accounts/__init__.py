"""Who acts, and what they may do: users, organisations, tokens, sessions, access to gated repositories, limits.

`permissions.py` is where to start: its `allowed` decides everything. `accounts.py` keeps users and quotas,
`organisations.py` who belongs to which; `tokens.py` tells whom a token speaks for (`issuing.py` makes the texts), as
`keys.py` and `browser_sessions.py` do for theirs; `sign_in.py` opens sessions to passwords, with `two_factor.py` and
the links of `mail_links.py`; `joining.py` takes people in; `devices.py` keeps the logins of programs; `notices.py`
tells of changes to all these; `access.py` keeps the requests for gated repositories; `limits.py` counts requests.
Imported by repos, buckets, community, api, web and `lmc hub`.
"""

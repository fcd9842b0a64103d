"""Who may ask, for every server of Opsin's.

The prediction server and the studio stand behind the same guard, under the same rules for
addresses and tokens. Here is no route, no page and no web framework beyond what a reply needs.
"""

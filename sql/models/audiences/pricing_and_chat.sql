-- People who looked at the prices and talked to us.
{{ audience_members(all_of=[
    "page_path = '/pricing'",
    "event = 'Live Chat Started'"
]) }}

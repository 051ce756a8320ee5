-- People who started a chat within two hours of looking at the prices.
{{ audience_members(all_of=[
    then_within("page_path = '/pricing'", "event = 'Live Chat Started'", hours=2)
]) }}

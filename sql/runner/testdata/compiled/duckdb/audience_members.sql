-- Who is in which audience now, of those listed in the var audiences.
select 'asked_about_prices' as audience, 'profile' as entity, profile_id, cast(null as string) as account_id, entered_at from sluis_models.asked_about_prices
union all select 'colleagues_of_customers' as audience, 'profile' as entity, profile_id, cast(null as string) as account_id, entered_at from sluis_models.colleagues_of_customers
union all select 'good_customers' as audience, 'profile' as entity, profile_id, cast(null as string) as account_id, entered_at from sluis_models.good_customers
union all select 'lapsed_customers' as audience, 'profile' as entity, profile_id, cast(null as string) as account_id, entered_at from sluis_models.lapsed_customers
union all select 'pricing_and_chat' as audience, 'profile' as entity, profile_id, cast(null as string) as account_id, entered_at from sluis_models.pricing_and_chat
union all select 'abandoned_carts' as audience, 'profile' as entity, profile_id, cast(null as string) as account_id, entered_at from sluis_models.abandoned_carts
union all select 'active_accounts' as audience, 'account' as entity, cast(null as string) as profile_id, account_id, entered_at from sluis_models.active_accounts
union all select 'churn_risk' as audience, 'profile' as entity, profile_id, cast(null as string) as account_id, entered_at from sluis_models.churn_risk
union all select 'high_intent' as audience, 'profile' as entity, profile_id, cast(null as string) as account_id, entered_at from sluis_models.high_intent
union all select 'lookalike_seed' as audience, 'profile' as entity, profile_id, cast(null as string) as account_id, entered_at from sluis_models.lookalike_seed
union all select 'new_customers' as audience, 'profile' as entity, profile_id, cast(null as string) as account_id, entered_at from sluis_models.new_customers

select id, upper(name) as name, current_user() as loaded_by from {{ ref('people') }}

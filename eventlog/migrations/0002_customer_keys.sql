-- Under whose key a customer's personal data is sealed. To delete a secret is to erase the customer.
CREATE TABLE customer_keys (
    key_id      text        PRIMARY KEY,
    customer_id text        NOT NULL,
    secret      bytea,      -- NULL once erased; the row stays, to tell that from an unknown key
    created_at  timestamptz NOT NULL DEFAULT now(),
    erased_at   timestamptz,
    CHECK ((secret IS NULL) = (erased_at IS NOT NULL))
);

-- One key in use for each customer, whoever is first; one who comes back gets another.
CREATE UNIQUE INDEX customer_keys_in_use ON customer_keys (customer_id) WHERE erased_at IS NULL;

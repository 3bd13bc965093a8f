load_yelp = load_amazon = load_stormfront = load_offenseval = load_irony = load_table = (
    None  # placeholder, overwrite this file
)

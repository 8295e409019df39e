"""The tabs of an endpoint's page, a file each: what one loads and how it is drawn. `pages/serving.py` holds them."""

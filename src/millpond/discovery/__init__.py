"""Discovery: one search over the objects of every room, for what somebody may see of them.

Each room is a *source*, asked as whoever looks; what is hidden from them is neither found nor counted. What is looked
for and found, and how well it fits, is the catalog's (`catalog/search.py`), which finds its own objects in SQL.
No outside protocol: `/api/millpond/search`. Read `service.py` first.
"""

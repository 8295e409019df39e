"""A name as a hostile user would write it; `window.hurt` is set when a page runs it."""

MARKUP = """<img src=x onerror="window.hurt=1"><script>window.hurt=1</script>"""

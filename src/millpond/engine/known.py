"""The kinds of relations and expressions that the walk over a plan knows; all others are refused."""

REFUSED_RELATIONS = {
    "extension": "Relation extensions",
    "unknown": "Unknown relations",
    "ml_relation": "Spark ML over Spark Connect",
    "relation_changes": "Change data through the DataFrame reader",
    "common_inline_user_defined_data_source": "User-defined data sources",
    "apply_in_pandas_with_state": "Streaming state",
    "with_watermark": "Streaming watermarks",
    "catalog": "A catalog call inside a query",
}
KNOWN_RELATIONS = frozenset({
    "read", "project", "filter", "join", "set_op", "sort", "limit", "aggregate", "sql", "local_relation", "sample",
    "offset", "deduplicate", "range", "subquery_alias", "repartition", "to_df", "with_columns_renamed", "show_string",
    "drop", "tail", "with_columns", "hint", "unpivot", "to_schema", "repartition_by_expression", "map_partitions",
    "collect_metrics", "parse", "group_map", "co_group_map", "html_string", "cached_local_relation",
    "cached_remote_relation", "common_inline_user_defined_table_function", "as_of_join", "with_relations", "transpose",
    "unresolved_table_valued_function", "lateral_join", "chunked_cached_local_relation", "nearest_by_join",
    "fill_na", "drop_na", "replace", "summary", "crosstab", "describe", "cov", "corr", "approx_quantile", "freq_items",
    "sample_by",
})  # fmt: skip
KNOWN_EXPRESSIONS = frozenset({
    "literal", "unresolved_attribute", "unresolved_function", "expression_string", "unresolved_star", "alias", "cast",
    "unresolved_regex", "sort_order", "lambda_function", "window", "unresolved_extract_value", "update_fields",
    "unresolved_named_lambda_variable", "common_inline_user_defined_function", "call_function",
    "named_argument_expression", "merge_action", "subquery_expression", "direct_shuffle_partition_id",
})  # fmt: skip
# Nothing below these can name anything.
LEAVES = frozenset({
    "spark.connect.LocalRelation", "spark.connect.CachedLocalRelation", "spark.connect.ChunkedCachedLocalRelation",
    "spark.connect.DataType", "spark.connect.RelationCommon", "spark.connect.Range", "spark.connect.PythonUDF",
    "spark.connect.PythonUDTF", "spark.connect.Expression.Literal", "spark.connect.ExpressionCommon",
    "spark.connect.StorageLevel", "spark.connect.Expression.UnresolvedAttribute",
})  # fmt: skip

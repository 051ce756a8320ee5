package googlesql

import (
	engine "github.com/goccy/go-googlesql"
)

// features are those of GoogleSQL's optional ones that BigQuery's
// documentation describes, as far as models and statements may come to use
// them. What is left out is refused, as the rest of what GoogleSQL can do is.
func features() []engine.LanguageFeature {
	return []engine.LanguageFeature{
		// Queries.
		engine.LanguageFeatureFeatureAnalyticFunctions,
		engine.LanguageFeatureFeatureQualify,
		engine.LanguageFeatureFeaturePivot,
		engine.LanguageFeatureFeatureUnpivot,
		engine.LanguageFeatureFeatureWithRecursive,
		engine.LanguageFeatureFeatureWithOnSubquery,
		engine.LanguageFeatureFeatureSelectStarExceptReplace,
		engine.LanguageFeatureFeatureNullsFirstLastInOrderBy,
		engine.LanguageFeatureFeatureGroupByRollup,
		engine.LanguageFeatureFeatureGroupingSets,
		engine.LanguageFeatureFeatureGroupByAll,
		engine.LanguageFeatureFeatureGroupByStruct,
		engine.LanguageFeatureFeatureGroupByArray,
		engine.LanguageFeatureFeatureTablesample,
		engine.LanguageFeatureFeatureForSystemTimeAsOf,
		engine.LanguageFeatureFeatureAllowDashesInTableName,
		engine.LanguageFeatureFeatureIsDistinct,
		engine.LanguageFeatureFeatureLikeAnySomeAll,

		// Aggregates and functions.
		engine.LanguageFeatureFeatureOrderByInAggregate,
		engine.LanguageFeatureFeatureLimitInAggregate,
		engine.LanguageFeatureFeatureHavingInAggregate,
		engine.LanguageFeatureFeatureNullHandlingModifierInAggregate,
		engine.LanguageFeatureFeatureNullHandlingModifierInAnalytic,
		engine.LanguageFeatureFeatureNamedArguments,
		engine.LanguageFeatureFeatureFunctionArgumentsWithDefaults,
		engine.LanguageFeatureFeatureTemplateFunctions,
		engine.LanguageFeatureFeatureSafeFunctionCall,
		engine.LanguageFeatureFeatureFormatInCast,
		engine.LanguageFeatureFeatureConcatMixedTypes,
		engine.LanguageFeatureFeatureAllowRegexpExtractOptionals,
		engine.LanguageFeatureFeatureAdditionalStringFunctions,
		engine.LanguageFeatureFeatureWeekWithWeekday,
		engine.LanguageFeatureFeatureDateTimeConstructors,
		engine.LanguageFeatureFeatureExtendedDateTimeSignatures,
		engine.LanguageFeatureFeatureDateArithmetics,
		engine.LanguageFeatureFeatureBareArrayAccess,
		engine.LanguageFeatureFeatureJsonArrayFunctions,
		engine.LanguageFeatureFeatureJsonValueExtractionFunctions,
		engine.LanguageFeatureFeatureJsonLaxValueExtractionFunctions,
		engine.LanguageFeatureFeatureJsonConstructorFunctions,
		engine.LanguageFeatureFeatureJsonMutatorFunctions,
		engine.LanguageFeatureFeatureJsonKeysFunction,

		// Types.
		engine.LanguageFeatureFeatureNumericType,
		engine.LanguageFeatureFeatureBignumericType,
		engine.LanguageFeatureFeatureDecimalAlias,
		engine.LanguageFeatureFeatureJsonType,
		engine.LanguageFeatureFeatureJsonStrictNumberParsing,
		engine.LanguageFeatureFeatureIntervalType,
		engine.LanguageFeatureFeatureRangeType,
		engine.LanguageFeatureFeatureGeography,
		engine.LanguageFeatureFeatureCivilTime,
		engine.LanguageFeatureFeatureParameterizedTypes,

		// Statements.
		engine.LanguageFeatureFeatureDmlUpdateWithJoin,
		engine.LanguageFeatureFeatureOmitInsertColumnList,
		engine.LanguageFeatureFeatureCreateTableNotNull,
		engine.LanguageFeatureFeatureCreateTableAsSelectColumnList,
		engine.LanguageFeatureFeatureCreateTablePartitionBy,
		engine.LanguageFeatureFeatureCreateTableClusterBy,
		engine.LanguageFeatureFeatureCreateTableFieldAnnotations,
		engine.LanguageFeatureFeatureCreateTableLike,
		engine.LanguageFeatureFeatureCreateTableCopy,
		engine.LanguageFeatureFeatureCreateViewWithColumnList,
		engine.LanguageFeatureFeatureUnenforcedPrimaryKeys,
		engine.LanguageFeatureFeatureColumnDefaultValue,
	}
}

// statements are the kinds that Sluis issues.
func statements() []engine.ResolvedNodeKind {
	return []engine.ResolvedNodeKind{
		engine.ResolvedNodeKindResolvedQueryStmt,
		engine.ResolvedNodeKindResolvedInsertStmt,
		engine.ResolvedNodeKindResolvedUpdateStmt,
		engine.ResolvedNodeKindResolvedDeleteStmt,
		engine.ResolvedNodeKindResolvedMergeStmt,
		engine.ResolvedNodeKindResolvedTruncateStmt,
		engine.ResolvedNodeKindResolvedCreateSchemaStmt,
		engine.ResolvedNodeKindResolvedCreateTableStmt,
		engine.ResolvedNodeKindResolvedCreateTableAsSelectStmt,
		engine.ResolvedNodeKindResolvedCreateViewStmt,
		engine.ResolvedNodeKindResolvedDropStmt,
	}
}

// language returns the options that make GoogleSQL speak BigQuery's dialect.
func language() (*engine.LanguageOptions, error) {
	options, err := engine.NewLanguageOptions()
	if err != nil {
		return nil, err
	}
	if err := options.SetProductMode(engine.ProductModeProductExternal); err != nil {
		return nil, err
	}
	if err := options.SetNameResolutionMode(engine.NameResolutionModeNameResolutionDefault); err != nil {
		return nil, err
	}
	for _, feature := range features() {
		if err := options.EnableLanguageFeature(feature); err != nil {
			return nil, err
		}
	}
	// BigQuery reserves the word. GoogleSQL, unless it does so too, takes
	// QUALIFY only after a WHERE, GROUP BY or HAVING.
	if err := options.EnableReservableKeyword("QUALIFY", true); err != nil {
		return nil, err
	}
	return options, options.SetSupportedStatementKinds(statements())
}

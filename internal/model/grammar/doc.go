// Package grammar turns JSON Schema into GBNF, the grammar language of llama.cpp, without any optional
// white space: a small model then spends no token on layout, and every answer is JSON of that shape.
//
// It is pure. The supported subset is type, enum, const, properties, required, items, prefixItems,
// minItems, maxItems, minLength, maxLength, pattern (anchors, classes, groups, repetition), minimum and
// maximum of integers, format date, time and date-time, anyOf, oneOf and $ref into the same document.
// Objects hold exactly the properties that the schema names, in the order in which it names them; an
// object without properties is any JSON object. Bounds of numbers that are not integers, and what
// recursion would allow below depth 32, stay with the validator of the caller.
package grammar

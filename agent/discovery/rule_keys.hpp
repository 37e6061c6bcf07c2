// SPDX-License-Identifier: Apache-2.0
// Rules: which services of a registry become services of the mesh, and as what. What the rules of all registries have
// in common. The first rule that matches a service counts.
//
// A rule is a struct with `match`, `name` and `address`, and with what its registry calls a service:
//   static constexpr std::string_view kOne = "application", kMany = "applications";
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "discovery/keys.hpp"

namespace mesh::discovery {

inline constexpr std::string_view kMatchAll = "all";

/// `text` against a pattern with * (anything) and ? (one character).
bool matches_pattern(std::string_view pattern, std::string_view text);
/// Whether a rule with this `match` is for a service of this name.
bool rule_matches(std::string_view match, std::string_view name);
/// Whether it is a name: neither a pattern nor "all".
bool is_exact_match(std::string_view match);

namespace rule_keys_detail {

/// Each adds an error and returns false for what is none.
bool read_match(Decoder& decoder, const Key& key, const Value& value, std::string_view many, std::string& out);
bool read_name(Decoder& decoder, const Key& key, const Value& value, std::string& out);
bool read_address(Decoder& decoder, const Key& key, const Value& value, std::string& out);
/// `name` and `address` are for one service.
void check_for_one(Decoder& decoder, const Value& rule, std::string_view match, std::string_view one);

}  // namespace rule_keys_detail

template <typename Rule>
constexpr Key rule_match_key(std::string_view doc) {
  return required(with_decode(
      key<&Rule::match>("match", doc), [](Decoder& decoder, const Key& self, const Value& value, void* target) {
        rule_keys_detail::read_match(decoder, self, value, Rule::kMany, static_cast<Rule*>(target)->match);
      }));
}

template <typename Rule>
constexpr Key rule_name_key(std::string_view doc) {
  return with_decode(key<&Rule::name>("name", doc),
                     [](Decoder& decoder, const Key& self, const Value& value, void* target) {
                       rule_keys_detail::read_name(decoder, self, value, static_cast<Rule*>(target)->name);
                     });
}

template <typename Rule>
constexpr Key rule_address_key() {
  return with_decode(
      key<&Rule::address>("address", "IP address of its frontend; empty is one of the agent's range, by name."),
      [](Decoder& decoder, const Key& self, const Value& value, void* target) {
        rule_keys_detail::read_address(decoder, self, value, static_cast<Rule*>(target)->address);
      });
}

/// A list of names, patterns and rules. `check` sees each rule whose keys are right. Errors leave `out` as it was.
template <typename Rule>
void decode_rule_list(Decoder& decoder, const Value& value, const Table& table, std::vector<Rule>& out,
                      void (*check)(Decoder&, const Value&, const Rule&) = nullptr) {
  if (value.kind == Value::Kind::kNull || !decoder.is_list(value)) return;
  std::vector<Rule> rules;
  decoder.each(value, [&](const Value& item) {
    Rule rule;
    if (item.is_scalar() && item.kind != Value::Kind::kNull) {
      const Key* const match = table.find("match");
      match->decode(decoder, *match, item, &rule);
    } else {
      const std::size_t errors_before = decoder.error_count();
      decoder.table(table, item, &rule);
      rule_keys_detail::check_for_one(decoder, item, rule.match, Rule::kOne);
      if (check != nullptr && decoder.error_count() == errors_before) check(decoder, item, rule);
    }
    rules.push_back(std::move(rule));
  });
  out = std::move(rules);
}

template <typename Rule>
Value encode_rule_list(const std::vector<Rule>& rules, const Table& table, Secrets secrets) {
  Value list = Value::list();
  for (const Rule& rule : rules) {
    Rule only_match;
    only_match.match = rule.match;
    list.items.push_back(rule == only_match ? Value::string(rule.match)
                                            : encode(table, &rule, secrets, Encode::kChanged));
  }
  return list;
}

}  // namespace mesh::discovery

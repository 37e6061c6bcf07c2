// SPDX-License-Identifier: Apache-2.0
#include "discovery/rule_keys.hpp"

#include "base/address.hpp"
#include "discovery/service_keys.hpp"

namespace mesh::discovery {

bool matches_pattern(std::string_view pattern, std::string_view text) {
  std::size_t p = 0;
  std::size_t t = 0;
  std::size_t star = std::string_view::npos;  // the last *, and what of the text it has eaten
  std::size_t eaten = 0;
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      eaten = t;
    } else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == text[t])) {
      ++p;
      ++t;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      t = ++eaten;
    } else {
      return false;
    }
  }
  return pattern.find_first_not_of('*', p) == std::string_view::npos;
}

bool rule_matches(std::string_view match, std::string_view name) {
  return match == kMatchAll || matches_pattern(match, name);
}

bool is_exact_match(std::string_view match) {
  return match != kMatchAll && match.find_first_of("*?") == std::string_view::npos;
}

namespace rule_keys_detail {

bool read_match(Decoder& decoder, const Key& key, const Value& value, std::string_view many, std::string& out) {
  std::string text;
  if (!decoder.string(key, value, text)) return false;
  if (text.empty() || text.find_first_not_of("*?") == std::string::npos) {
    return decoder.error(value, "matches whatever is there",
                         "name " + std::string(many) + " or a part of their names, or write all");
  }
  out = std::move(text);
  return true;
}

bool read_name(Decoder& decoder, const Key& key, const Value& value, std::string& out) {
  std::string text;
  if (!decoder.string(key, value, text)) return false;
  if (!text.empty() && !is_service_name(text)) {
    return decoder.error(value, "a name is 1 to 253 of a-z 0-9 . - / _");
  }
  out = std::move(text);
  return true;
}

bool read_address(Decoder& decoder, const Key& key, const Value& value, std::string& out) {
  std::string text;
  if (!decoder.string(key, value, text)) return false;
  if (const auto ip = base::IpAddress::parse(text); !text.empty() && (!ip || ip->is_unspecified())) {
    return decoder.error(value, "'" + text + "' is not an IP address",
                         "write it as 240.64.0.10; the port is a key of its own");
  }
  out = std::move(text);
  return true;
}

void check_for_one(Decoder& decoder, const Value& rule, std::string_view match, std::string_view one) {
  if (match.empty() || is_exact_match(match)) return;
  for (const std::string_view only_one : {"name", "address"}) {
    const Value* const written = rule.find(only_one);
    if (written == nullptr) continue;
    decoder.under(only_one, [&] {
      decoder.error_at(written->key_place,
                       "is for one " + std::string(one) + ", and '" + std::string(match) + "' can match several",
                       "put the " + std::string(one) + "'s name into match");
    });
  }
}

}  // namespace rule_keys_detail
}  // namespace mesh::discovery

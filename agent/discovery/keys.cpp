// SPDX-License-Identifier: Apache-2.0
#include "discovery/keys.hpp"

#include <algorithm>
#include <charconv>

#include "base/duration.hpp"
#include "base/suggest.hpp"

namespace mesh::discovery {
namespace {

std::string quote(std::string_view text) {
  constexpr std::size_t kShown = 80;
  return "'" + std::string(text.substr(0, kShown)) + (text.size() > kShown ? "..." : "") + "'";
}

bool same_content(const Value& a, const Value& b) {
  return a.kind == b.kind && a.key == b.key && a.text == b.text &&
         std::equal(a.items.begin(), a.items.end(), b.items.begin(), b.items.end(), same_content);
}

}  // namespace

namespace keys_detail {

Value encode_duration(std::chrono::nanoseconds duration) { return Value::string(base::format_duration(duration)); }

Value encode_strings(const std::vector<std::string>& strings) {
  Value list = Value::list();
  for (const std::string& text : strings) list.items.push_back(Value::string(text));
  return list;
}

}  // namespace keys_detail

const Key* Table::find(std::string_view key) const {
  for (const Key& candidate : keys) {
    if (candidate.name == key) return &candidate;
  }
  return base != nullptr ? base->find(key) : nullptr;
}

std::vector<std::string_view> Table::names() const {
  std::vector<std::string_view> all;
  for (const Key& key : keys) all.push_back(key.name);
  if (base != nullptr) {
    const auto more = base->names();
    all.insert(all.end(), more.begin(), more.end());
  }
  return all;
}

std::string KeyPath::to_string() const {
  std::string text = parent != nullptr ? parent->to_string() : "";
  if (key.empty()) return text + "[" + std::to_string(index) + "]";
  return text.empty() ? std::string(key) : text + "." + std::string(key);
}

Diagnostic Decoder::diagnostic(Place place, std::string message, std::string suggestion) const {
  const Place at = document_.resolve(place);
  return {document_.file(),
          static_cast<int>(at.line),
          static_cast<int>(at.column),
          path_ != nullptr ? path_->to_string() : "",
          std::move(message),
          std::move(suggestion)};
}

bool Decoder::error(const Value& at, std::string message, std::string suggestion) {
  // A missing value has no place of its own worth showing.
  const bool use_key = at.kind == Value::Kind::kNull && !at.key.empty();
  return error_at(use_key ? at.key_place : at.place, std::move(message), std::move(suggestion));
}

bool Decoder::error_at(Place place, std::string message, std::string suggestion) {
  findings_.add_error(diagnostic(place, std::move(message), std::move(suggestion)));
  return false;
}

void Decoder::warn(const Value& at, std::string message, std::string suggestion) {
  findings_.add_warning(diagnostic(at.place, std::move(message), std::move(suggestion)));
}

bool Decoder::wrong_type(const Value& value, std::string_view wanted, std::string suggestion) {
  if (value.kind == Value::Kind::kNull) {
    return error(value, "has no value", suggestion.empty() ? "write " + std::string(wanted) : std::move(suggestion));
  }
  const std::string got = value.kind == Value::Kind::kPlain ? quote(value.text) : std::string(value.kind_name());
  return error(value, "must be " + std::string(wanted) + ", not " + got, std::move(suggestion));
}

void Decoder::table(const Table& table, const Value& value, void* target) {
  if (value.kind != Value::Kind::kNull && !is_map(value)) return;  // nothing below "agent:" is an empty map
  for (const Value& item : value.items) {
    const Table* owner = &table;
    void* object = target;
    const Key* key = nullptr;
    while (true) {
      const auto found = std::find_if(owner->keys.begin(), owner->keys.end(),
                                      [&](const Key& candidate) { return candidate.name == item.key; });
      if (found != owner->keys.end()) {
        key = &*found;
        break;
      }
      if (owner->base == nullptr) break;
      object = owner->base_of(object);
      owner = owner->base;
    }
    under(item.key, [&] {
      if (key == nullptr) {
        std::vector<std::string_view> names = table.names();
        std::erase(names, refused_key);
        error_at(item.key_place,
                 "unknown key" + std::string(table.name.empty() ? "" : " in ") + std::string(table.name),
                 base::suggest_name(item.key, names));
      } else {
        key->decode(*this, *key, item, object);
      }
    });
  }
  for (const Key& key : table.keys) {
    if (key.required && value.find(key.name) == nullptr) {
      error(value, "the key '" + std::string(key.name) + "' is missing",
            key.example.empty() ? "" : "write " + std::string(key.example));
    }
  }
}

bool Decoder::string(const Key&, const Value& value, std::string& out) {
  if (value.kind != Value::Kind::kString && value.kind != Value::Kind::kPlain) {
    return wrong_type(value, "a string",
                      value.kind == Value::Kind::kNumber || value.kind == Value::Kind::kBool ? "put it in quotes" : "");
  }
  if (std::any_of(value.text.begin(), value.text.end(),
                  [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; })) {
    return error(value, "control characters are not allowed");
  }
  out = value.text;
  return true;
}

bool Decoder::boolean(const Value& value, bool& out) {
  const bool scalar = value.kind == Value::Kind::kBool || value.kind == Value::Kind::kPlain;
  if (scalar && value.text == "true") return out = true, true;
  if (scalar && value.text == "false") return out = false, true;
  std::string suggestion;
  if (value.text == "yes" || value.text == "on" || value.text == "True") suggestion = "write true";
  if (value.text == "no" || value.text == "off" || value.text == "False") suggestion = "write false";
  if (value.kind == Value::Kind::kString && (value.text == "true" || value.text == "false"))
    suggestion = "remove the quotes";
  return wrong_type(value, "true or false", std::move(suggestion));
}

bool Decoder::integer(const Key& key, const Value& value, std::int64_t& out) {
  const std::string range = std::to_string(key.min) + " to " + std::to_string(key.max);
  std::int64_t number = 0;
  const char* const end = value.text.data() + value.text.size();
  const auto [stop, ec] = std::from_chars(value.text.data(), end, number);
  const bool numeric = stop == end && !value.text.empty() && ec != std::errc::invalid_argument;
  if (value.kind != Value::Kind::kNumber && value.kind != Value::Kind::kPlain) {
    return wrong_type(value, "a whole number",
                      value.kind == Value::Kind::kString && numeric ? "remove the quotes" : "");
  }
  if (!numeric) {
    std::string suggestion = "use " + range;
    if (stop != value.text.data() && ec == std::errc{} && *stop == '%' && stop + 1 == end)
      suggestion = "write " + std::to_string(number) + " without the %";
    return error(value, "must be a whole number, not " + quote(value.text), std::move(suggestion));
  }
  if (ec == std::errc::result_out_of_range || number < key.min || number > key.max) {
    return error(value, value.text + " is out of range", "use " + range);
  }
  out = number;
  return true;
}

bool Decoder::duration(const Key& key, const Value& value, std::chrono::nanoseconds& out) {
  if (value.kind == Value::Kind::kNumber && value.text != "0") {
    return error(value, value.text + " is not a duration: the unit is missing",
                 "write \"" + value.text + "s\" for seconds, \"" + value.text + "ms\" for milliseconds");
  }
  if (!value.is_scalar() || value.kind == Value::Kind::kNull || value.kind == Value::Kind::kBool) {
    return wrong_type(value, "a duration", "write it as 500ms, 5s or 1m30s");
  }
  const auto parsed = base::parse_duration(value.text);
  if (!parsed) return error(value, parsed.error().message, parsed.error().remedy);
  if (parsed->count() < key.min || parsed->count() > key.max) {
    return error(value, value.text + " is out of range",
                 "use " + base::format_duration(base::Duration{key.min}) + " to " +
                     base::format_duration(base::Duration{key.max}));
  }
  if (parsed->count() % key.unit != 0) {
    return error(value, value.text + " is finer than " + base::format_duration(base::Duration{key.unit}),
                 "use a multiple of " + base::format_duration(base::Duration{key.unit}));
  }
  out = *parsed;
  return true;
}

bool Decoder::choice(const Key& key, const Value& value, std::string_view& out) {
  if (value.kind != Value::Kind::kString && value.kind != Value::Kind::kPlain)
    return wrong_type(value, "a name", base::suggest_name({}, key.names));
  for (const std::string_view name : key.names) {
    if (name == value.text) return out = name, true;
  }
  return error(value, "unknown value " + quote(value.text), base::suggest_name(value.text, key.names));
}

bool Decoder::address(const Value& value, base::SocketAddress& out) {
  if (value.kind != Value::Kind::kString && value.kind != Value::Kind::kPlain) {
    return wrong_type(value, "an address with a port", "write it as 10.0.0.1:80 or \"[fd00::1]:80\"");
  }
  const auto parsed = base::SocketAddress::parse(value.text);
  if (!parsed) return error(value, parsed.error().message, parsed.error().remedy);
  if (parsed->ip.is_unspecified()) return error(value, quote(value.text) + " is no address that one can connect to");
  out = *parsed;
  return true;
}

bool Decoder::strings(const Value& value, std::vector<std::string>& out) {
  if (!is_list(value)) return false;
  std::vector<std::string> texts;
  bool good = true;
  each(value, [&](const Value& item) { good = string(Key{}, item, texts.emplace_back()) && good; });
  if (good) out = std::move(texts);
  return good;
}

bool Decoder::path(const Key& key, const Value& value, std::string& out) {
  std::string text;
  if (!string(key, value, text)) return false;
  if (!text.empty() && !text.starts_with('/')) return error(value, "a path starts with /");
  out = std::move(text);
  return true;
}

bool Decoder::is_list(const Value& value) {
  if (value.kind == Value::Kind::kList) return true;
  return wrong_type(value, "a list",
                    value.is_scalar() && !value.text.empty() ? "write [" + value.text.substr(0, 80) + "]" : "");
}

bool Decoder::is_map(const Value& value) {
  return value.kind == Value::Kind::kMap || wrong_type(value, "a map of keys and values");
}

Value encode(const Table& table, const void* object, Secrets secrets, Encode what) {
  Value map = Value::map();
  for (const Key& key : table.keys) {
    Value value = key.encode(key, object, secrets);
    if (what == Encode::kChanged && same_content(value, key.encode(key, table.defaults, secrets))) continue;
    map.add(std::string(key.name), std::move(value));
  }
  if (table.base != nullptr) {
    Value more = encode(*table.base, table.base_of(const_cast<void*>(object)), secrets, what);
    for (Value& item : more.items) map.items.push_back(std::move(item));
  }
  return map;
}

}  // namespace mesh::discovery

// SPDX-License-Identifier: Apache-2.0
// Tables of keys: the one description of what may stand in a file. The decoder, `config show`, the JSON Schema and the
// test of docs/configuration.md all read the same tables, so they can't disagree. A default is not written in a table:
// it is what a fresh object holds.
#pragma once

#include <chrono>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "base/address.hpp"
#include "discovery/value.hpp"

namespace mesh::discovery {

class Decoder;
struct Table;

enum class KeyType : std::uint8_t { kString, kBool, kInteger, kDuration, kChoice, kAddress, kStrings, kTable, kCustom };

/// kReveal for the state on disk, kHide for whatever people or programs read.
enum class Secrets : std::uint8_t { kReveal, kHide };

struct Key {
  std::string_view name;
  std::string_view doc;  ///< One sentence, for the schema.
  KeyType type = KeyType::kCustom;
  std::int64_t min = 0;  ///< Integers; durations in nanoseconds.
  std::int64_t max = 0;
  std::int64_t unit = 1;                    ///< Durations: a multiple of this many nanoseconds.
  std::span<const std::string_view> names;  ///< kChoice
  const Table* table = nullptr;             ///< kTable
  std::string_view schema;                  ///< kCustom: its JSON Schema.
  bool required = false;
  std::string_view example;  ///< Of a required one: what to write.
  void (*decode)(Decoder&, const Key&, const Value&, void* target) = nullptr;
  Value (*encode)(const Key&, const void* target, Secrets) = nullptr;
};

struct Table {
  std::string_view name;  ///< "probe", for messages
  std::span<const Key> keys;
  const void* defaults = nullptr;  ///< A fresh object of the table's type.
  const Table* base = nullptr;     ///< More keys, of a member of the object.
  void* (*base_of)(void*) = nullptr;

  [[nodiscard]] const Key* find(std::string_view key) const;
  [[nodiscard]] std::vector<std::string_view> names() const;  ///< With those of the base.
};

/// Where the decoder is, as a list on the stack: rendered only for a finding.
struct KeyPath {
  const KeyPath* parent = nullptr;
  std::string_view key;  ///< Empty: an element.
  std::size_t index = 0;
  [[nodiscard]] std::string to_string() const;  ///< "services[2].probe.interval"
};

/// Reads Values into objects by their tables, and collects all findings.
class Decoder {
 public:
  Decoder(const Document& document, Findings& findings) : document_(document), findings_(findings) {}

  void table(const Table& table, const Value& value, void* target);
  /// Calls `read` for each element, with the path set.
  template <typename Read>
  void each(const Value& list, Read&& read) {
    for (std::size_t i = 0; i < list.items.size(); ++i) element(list.items[i], i, read);
  }
  template <typename Read>
  void element(const Value& value, std::size_t index, Read&& read) {
    const KeyPath path{path_, {}, index};
    path_ = &path;
    read(value);
    path_ = path.parent;
  }
  /// Runs `read` with `key` added to the path.
  template <typename Read>
  void under(std::string_view key, Read&& read) {
    const KeyPath path{path_, key, 0};
    path_ = &path;
    read();
    path_ = path.parent;
  }

  // Each returns false after an error was added; the target is then unchanged.
  bool string(const Key& key, const Value& value, std::string& out);
  bool boolean(const Value& value, bool& out);
  bool integer(const Key& key, const Value& value, std::int64_t& out);
  bool duration(const Key& key, const Value& value, std::chrono::nanoseconds& out);
  bool choice(const Key& key, const Value& value, std::string_view& out);
  bool address(const Value& value, base::SocketAddress& out);
  bool strings(const Value& value, std::vector<std::string>& out);
  bool path(const Key& key, const Value& value, std::string& out);  ///< Of a file: absolute, or empty.
  bool is_list(const Value& value);
  bool is_map(const Value& value);

  bool error(const Value& at, std::string message, std::string suggestion = {});
  bool error_at(Place place, std::string message, std::string suggestion = {});
  void warn(const Value& at, std::string message, std::string suggestion = {});
  [[nodiscard]] std::size_t error_count() const { return findings_.error_count(); }
  [[nodiscard]] const Document& document() const { return document_; }
  [[nodiscard]] int line_of(const Value& value) const { return static_cast<int>(document_.resolve(value.place).line); }

  std::string_view refused_key;  ///< One of the table that is an error here: never suggested.
  void* context = nullptr;       ///< For custom keys: what their owner passes along.

 private:
  bool wrong_type(const Value& value, std::string_view wanted, std::string suggestion = {});
  [[nodiscard]] Diagnostic diagnostic(Place place, std::string message, std::string suggestion) const;

  const Document& document_;
  Findings& findings_;
  const KeyPath* path_ = nullptr;
};

enum class Encode : std::uint8_t { kAll, kChanged };

/// An object as a map in the order of its table. kChanged leaves out what has its default.
Value encode(const Table& table, const void* object, Secrets secrets, Encode what = Encode::kAll);

/// Names of an enum, for kChoice; specialised where a table uses one.
template <typename E>
struct EnumNames;  // static constexpr std::array<std::string_view, N> kNames; static constexpr std::array<E, N>
                   // kValues;

struct Range {
  std::int64_t min = 0;
  std::int64_t max = 0;
};
template <typename Rep, typename Period>
constexpr Range between(std::chrono::duration<Rep, Period> min, std::chrono::nanoseconds max) {
  return {std::chrono::nanoseconds(min).count(), max.count()};
}

namespace keys_detail {

template <typename M>
struct MemberTraits;
template <typename C, typename T>
struct MemberTraits<T C::*> {
  using Object = C;
  using Type = T;
};
template <typename T>
inline constexpr bool kIsDuration = false;
template <typename Rep, typename Period>
inline constexpr bool kIsDuration<std::chrono::duration<Rep, Period>> = true;

Value encode_duration(std::chrono::nanoseconds duration);
Value encode_strings(const std::vector<std::string>& strings);

}  // namespace keys_detail

/// The key of one member. Its type gives the kind of key and how it is read and written.
template <auto Member>
constexpr Key key(std::string_view name, std::string_view doc, Range range = {}) {
  using Traits = keys_detail::MemberTraits<decltype(Member)>;
  using Object = typename Traits::Object;
  using Type = typename Traits::Type;
  Key key{.name = name, .doc = doc, .min = range.min, .max = range.max};
  if constexpr (std::is_same_v<Type, std::string>) {
    key.type = KeyType::kString;
    key.decode = [](Decoder& decoder, const Key& self, const Value& value, void* target) {
      decoder.string(self, value, static_cast<Object*>(target)->*Member);
    };
    key.encode = [](const Key&, const void* target, Secrets) {
      return Value::string(static_cast<const Object*>(target)->*Member);
    };
  } else if constexpr (std::is_same_v<Type, bool>) {
    key.type = KeyType::kBool;
    key.decode = [](Decoder& decoder, const Key&, const Value& value, void* target) {
      decoder.boolean(value, static_cast<Object*>(target)->*Member);
    };
    key.encode = [](const Key&, const void* target, Secrets) {
      return Value::boolean(static_cast<const Object*>(target)->*Member);
    };
  } else if constexpr (std::is_integral_v<Type>) {
    key.type = KeyType::kInteger;
    key.decode = [](Decoder& decoder, const Key& self, const Value& value, void* target) {
      std::int64_t number = 0;
      if (decoder.integer(self, value, number)) static_cast<Object*>(target)->*Member = static_cast<Type>(number);
    };
    key.encode = [](const Key&, const void* target, Secrets) {
      return Value::number(static_cast<const Object*>(target)->*Member);
    };
  } else if constexpr (keys_detail::kIsDuration<Type>) {
    key.type = KeyType::kDuration;
    key.unit = std::chrono::nanoseconds(Type{1}).count();
    key.decode = [](Decoder& decoder, const Key& self, const Value& value, void* target) {
      std::chrono::nanoseconds duration{};
      if (decoder.duration(self, value, duration)) {
        static_cast<Object*>(target)->*Member = std::chrono::duration_cast<Type>(duration);
      }
    };
    key.encode = [](const Key&, const void* target, Secrets) {
      return keys_detail::encode_duration(static_cast<const Object*>(target)->*Member);
    };
  } else if constexpr (std::is_enum_v<Type>) {
    key.type = KeyType::kChoice;
    key.names = EnumNames<Type>::kNames;
    key.decode = [](Decoder& decoder, const Key& self, const Value& value, void* target) {
      std::string_view name;
      if (!decoder.choice(self, value, name)) return;
      for (std::size_t i = 0; i < EnumNames<Type>::kNames.size(); ++i) {
        if (EnumNames<Type>::kNames[i] == name) static_cast<Object*>(target)->*Member = EnumNames<Type>::kValues[i];
      }
    };
    key.encode = [](const Key&, const void* target, Secrets) {
      const Type value = static_cast<const Object*>(target)->*Member;
      for (std::size_t i = 0; i < EnumNames<Type>::kNames.size(); ++i) {
        if (EnumNames<Type>::kValues[i] == value) return Value::string(std::string(EnumNames<Type>::kNames[i]));
      }
      return Value{};
    };
  } else if constexpr (std::is_same_v<Type, base::SocketAddress>) {
    key.type = KeyType::kAddress;
    key.decode = [](Decoder& decoder, const Key&, const Value& value, void* target) {
      decoder.address(value, static_cast<Object*>(target)->*Member);
    };
    key.encode = [](const Key&, const void* target, Secrets) {
      const base::SocketAddress& address = static_cast<const Object*>(target)->*Member;
      return address.port == 0 ? Value{} : Value::string(address.to_string());
    };
  } else {
    static_assert(std::is_same_v<Type, std::vector<std::string>>);
    key.type = KeyType::kStrings;
    key.decode = [](Decoder& decoder, const Key&, const Value& value, void* target) {
      decoder.strings(value, static_cast<Object*>(target)->*Member);
    };
    key.encode = [](const Key&, const void* target, Secrets) {
      return keys_detail::encode_strings(static_cast<const Object*>(target)->*Member);
    };
  }
  return key;
}

/// A string of which only `names` are right.
template <auto Member>
constexpr Key choice_key(std::string_view name, std::string_view doc, std::span<const std::string_view> names) {
  using Object = typename keys_detail::MemberTraits<decltype(Member)>::Object;
  Key result = key<Member>(name, doc);
  result.type = KeyType::kChoice;
  result.names = names;
  result.decode = [](Decoder& decoder, const Key& self, const Value& value, void* target) {
    std::string_view text;
    if (decoder.choice(self, value, text)) static_cast<Object*>(target)->*Member = text;
  };
  return result;
}

/// The absolute path of a file, or nothing.
template <auto Member>
constexpr Key path_key(std::string_view name, std::string_view doc) {
  using Object = typename keys_detail::MemberTraits<decltype(Member)>::Object;
  Key result = key<Member>(name, doc);
  result.decode = [](Decoder& decoder, const Key& self, const Value& value, void* target) {
    decoder.path(self, value, static_cast<Object*>(target)->*Member);
  };
  return result;
}

/// A member that has a table of its own.
template <auto Member>
constexpr Key table_key(std::string_view name, std::string_view doc, const Table& table) {
  using Object = typename keys_detail::MemberTraits<decltype(Member)>::Object;
  return {.name = name,
          .doc = doc,
          .type = KeyType::kTable,
          .table = &table,
          .decode = [](Decoder& decoder, const Key& self, const Value& value,
                       void* target) { decoder.table(*self.table, value, &(static_cast<Object*>(target)->*Member)); },
          .encode =
              [](const Key& self, const void* target, Secrets secrets) {
                return encode(*self.table, &(static_cast<const Object*>(target)->*Member), secrets);
              }};
}

/// Keys that stand together in the file, but in the object itself.
constexpr Key group_key(std::string_view name, std::string_view doc, const Table& table) {
  return {.name = name,
          .doc = doc,
          .type = KeyType::kTable,
          .table = &table,
          .decode = [](Decoder& decoder, const Key& self, const Value& value,
                       void* target) { decoder.table(*self.table, value, target); },
          .encode = [](const Key& self, const void* target,
                       Secrets secrets) { return encode(*self.table, target, secrets); }};
}

constexpr Key required(Key key, std::string_view example = {}) {
  key.required = true;
  key.example = example;
  return key;
}

constexpr Key with_decode(Key key, void (*decode)(Decoder&, const Key&, const Value&, void*)) {
  key.decode = decode;
  return key;
}

}  // namespace mesh::discovery

// SPDX-License-Identifier: Apache-2.0
// What a YAML or JSON file says, before anybody asks what it means: scalars, lists and maps, each with its place. Both
// readers build it, the decoder reads it, so a service means the same in either format and errors look the same.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "discovery/diagnostic.hpp"

namespace mesh::discovery {

/// Where something starts. YAML: line and column, from 1. JSON: line is 0 and column a byte offset, which is turned
/// into a line only when somebody asks (Document::resolve).
struct Place {
  std::uint32_t line = 0;
  std::uint32_t column = 0;
};

struct Value {
  enum class Kind : std::uint8_t {
    kNull,
    kBool,    ///< JSON: text is "true" or "false"
    kNumber,  ///< JSON: text as printed back
    kString,  ///< JSON strings, quoted YAML
    kPlain,   ///< Unquoted YAML: a string, number or bool, whatever the key wants
    kList,
    kMap,
  };
  Kind kind = Kind::kNull;
  Place place{};
  Place key_place{};         ///< In a map.
  std::string key;           ///< In a map.
  std::string text;          ///< Scalars.
  std::vector<Value> items;  ///< Elements of a list, or of a map, in the order of the file.

  [[nodiscard]] bool is_scalar() const { return kind != Kind::kList && kind != Kind::kMap; }
  [[nodiscard]] const Value* find(std::string_view name) const;
  [[nodiscard]] std::string_view kind_name() const;  ///< "a list"

  static Value string(std::string text);
  static Value number(std::int64_t number);
  static Value boolean(bool value);
  static Value list();
  static Value map();
  Value& add(std::string key, Value value);  ///< To a map.
};

/// A file that is being read: its name, and its text for places that are byte offsets.
class Document {
 public:
  Document(std::string file, std::string_view text) : file_(std::move(file)), text_(text) {}
  [[nodiscard]] const std::string& file() const { return file_; }
  /// Line and column of a place. Cheap when asked in ascending order.
  [[nodiscard]] Place resolve(Place place) const;

 private:
  std::string file_;
  std::string_view text_;
  mutable std::size_t counted_to_ = 0;
  mutable std::uint32_t line_ = 1;
  mutable std::size_t line_start_ = 0;
};

/// Named limits of a file that is read.
struct ReadLimits {
  std::size_t depth = 16;
  std::size_t nodes = 500'000;  ///< Per document, or per streamed element.
  std::size_t keys_per_map = 1'000;
};

/// Puts reader events together, and enforces the limits and "no key twice". With a sink, elements of the lists that are
/// the document or stand directly in it are handed over as they end and forgotten, so that memory is bounded by one.
class ValueBuilder {
 public:
  using Sink = std::function<void(std::string_view list_key, std::size_t index, Value& element)>;

  ValueBuilder(const Document& document, Findings& findings, ReadLimits limits, Sink sink);

  // Each returns false when a limit is broken: the reader stops.
  bool begin(Value::Kind kind, Place place);
  bool end();
  bool key(std::string&& text, Place place);
  bool scalar(Value::Kind kind, std::string&& text, Place place);
  bool insert(const Value& value, Place place);  ///< A copy, for YAML aliases; counts as what it copies.

  [[nodiscard]] Value& root() { return root_; }
  [[nodiscard]] const Value& last() const { return *last_; }  ///< The value that ended last; without a sink only.
  [[nodiscard]] std::size_t depth() const { return open_.size(); }

 private:
  Value* next_slot();
  bool finish(Value& value);
  bool refuse(Place place, std::string message, std::string suggestion);

  const Document& document_;
  Findings& findings_;
  ReadLimits limits_;
  Sink sink_;
  Value root_;
  bool has_root_ = false;
  std::vector<Value*> open_;
  std::string pending_key_;
  Place pending_key_place_{};
  std::size_t nodes_ = 0;
  std::size_t streamed_ = 0;  ///< Elements of the current top-level list handed over.
  const Value* last_ = nullptr;
};

/// As JSON text, two spaces of indentation per level; `compact`: on one line.
enum class JsonStyle { kIndented, kCompact };
void write_json(const Value& value, std::string& out, JsonStyle style = JsonStyle::kIndented, unsigned depth = 0);

/// As block YAML that reads back to the same.
void write_yaml(const Value& value, std::string& out, unsigned depth = 0);

}  // namespace mesh::discovery

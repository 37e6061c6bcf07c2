// SPDX-License-Identifier: Apache-2.0
#include "discovery/json_reader.hpp"

#include <iterator>
#include <nlohmann/json.hpp>
#include <utility>

namespace mesh::discovery {
namespace {

/// An iterator over the text that tells where the parser is. At each event that is one behind the token, or for numbers
/// one more, because a number ends with the character after it.
class TrackingIterator {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  TrackingIterator(const char* at, const char** tracked) : at_(at), tracked_(tracked) {}
  reference operator*() const { return *at_; }
  TrackingIterator& operator++() {
    *tracked_ = ++at_;
    return *this;
  }
  TrackingIterator operator++(int) {
    TrackingIterator before = *this;
    ++*this;
    return before;
  }
  bool operator==(const TrackingIterator& other) const { return at_ == other.at_; }
  bool operator!=(const TrackingIterator& other) const { return at_ != other.at_; }

 private:
  const char* at_;
  const char** tracked_;
};

/// nlohmann's SAX events to a ValueBuilder.
class SaxToValues {
 public:
  using Json = nlohmann::json;

  SaxToValues(const Document& document, std::string_view text, Findings& findings, ValueBuilder::Sink sink)
      : document_(document),
        text_(text),
        findings_(findings),
        at_(text.data()),
        builder_(document, findings, ReadLimits{}, std::move(sink)) {}

  const char** position() { return &at_; }
  ValueBuilder& builder() { return builder_; }

  bool null() { return builder_.scalar(Value::Kind::kNull, {}, back(4)); }
  bool boolean(bool value) {
    return builder_.scalar(Value::Kind::kBool, value ? "true" : "false", back(value ? 4 : 5));
  }
  bool number_integer(std::int64_t value) {
    return builder_.scalar(Value::Kind::kNumber, std::to_string(value), number_start());
  }
  bool number_unsigned(std::uint64_t value) {
    return builder_.scalar(Value::Kind::kNumber, std::to_string(value), number_start());
  }
  bool number_float(double, const std::string& text) {
    return builder_.scalar(Value::Kind::kNumber, std::string(text), number_start());
  }
  bool string(std::string& text) {
    const Place start = string_start(text);
    return builder_.scalar(Value::Kind::kString, std::move(text), start);
  }
  bool binary(Json::binary_t&) { return false; }
  bool start_object(std::size_t) { return builder_.begin(Value::Kind::kMap, back(1)); }
  bool key(std::string& text) {
    const Place start = string_start(text);
    return builder_.key(std::move(text), start);
  }
  bool end_object() { return builder_.end(); }
  bool start_array(std::size_t) { return builder_.begin(Value::Kind::kList, back(1)); }
  bool end_array() { return builder_.end(); }

  bool parse_error(std::size_t, const std::string& token, const Json::exception& exception) {
    const Place at = document_.resolve(back(std::min<std::size_t>(1, token.size())));
    // "[json.exception.parse_error.101] parse error at line 1, column 2: syntax error while ...": keep what says why.
    std::string why = exception.what();
    if (const auto start = why.find("syntax error"); start != std::string::npos) why = why.substr(start);
    findings_.add_error(
        {document_.file(), static_cast<int>(at.line), static_cast<int>(at.column), "", "not JSON: " + why, ""});
    return false;
  }

 private:
  [[nodiscard]] Place at_offset(std::size_t offset) const { return {0, static_cast<std::uint32_t>(offset)}; }
  [[nodiscard]] std::size_t offset() const { return static_cast<std::size_t>(at_ - text_.data()); }
  [[nodiscard]] Place back(std::size_t count) const { return at_offset(offset() - std::min(offset(), count)); }

  [[nodiscard]] Place number_start() const {
    std::size_t start = offset();
    const auto in_number = [](char c) {
      return (c >= '0' && c <= '9') || c == '-' || c == '+' || c == '.' || c == 'e' || c == 'E';
    };
    if (start > 0 && !in_number(text_[start - 1])) --start;  // the character that ended it
    while (start > 0 && in_number(text_[start - 1])) --start;
    return at_offset(start);
  }

  /// The opening quote: where it must be if nothing is escaped, else searched backwards.
  [[nodiscard]] Place string_start(const std::string& value) const {
    const std::size_t end = offset() - 1;  // of the closing quote
    if (end >= value.size() + 1 && text_[end - value.size() - 1] == '"' &&
        text_.substr(end - value.size(), value.size()) == value) {
      return at_offset(end - value.size() - 1);
    }
    std::size_t start = end;
    while (start > 0) {
      --start;
      if (text_[start] != '"') continue;
      std::size_t backslashes = 0;
      while (backslashes < start && text_[start - 1 - backslashes] == '\\') ++backslashes;
      if (backslashes % 2 == 0) break;
    }
    return at_offset(start);
  }

  const Document& document_;
  std::string_view text_;
  Findings& findings_;
  const char* at_;
  ValueBuilder builder_;
};

}  // namespace

std::optional<Value> read_json(const Document& document, std::string_view text, ValueBuilder::Sink sink,
                               Findings& findings) {
  if (text.size() > kMaxJsonBytes) {
    findings.add_error({document.file(), 0, 0, "",
                        "larger than " + std::to_string(kMaxJsonBytes >> 20) + " MiB of JSON",
                        "split it into several files"});
    return std::nullopt;
  }
  SaxToValues handler(document, text, findings, std::move(sink));
  if (!nlohmann::json::sax_parse(TrackingIterator(text.data(), handler.position()),
                                 TrackingIterator(text.data() + text.size(), handler.position()), &handler)) {
    return std::nullopt;
  }
  return std::move(handler.builder().root());
}

}  // namespace mesh::discovery

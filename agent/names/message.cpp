// SPDX-License-Identifier: Apache-2.0
#include "names/message.hpp"

#include <algorithm>

namespace mesh::names {
namespace {

constexpr std::uint16_t kClassIn = 1;
constexpr std::uint16_t kResponse = 0x8000;
constexpr std::uint16_t kOpcodeMask = 0x7800;
constexpr std::uint16_t kAuthoritative = 0x0400;
constexpr std::uint16_t kTruncated = 0x0200;
constexpr std::uint16_t kRecursionDesired = 0x0100;
constexpr std::uint16_t kRecursionAvailable = 0x0080;
constexpr std::size_t kMaxLabel = 63;
constexpr std::size_t kMaxName = 253;
constexpr std::size_t kOptSize = 11;
constexpr std::uint16_t kEdnsSize = 1232;  // fits every path without fragments: RFC 9715

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

/// Reads numbers and names front to back; after a failure everything fails.
class Reader {
 public:
  explicit Reader(std::span<const std::byte> bytes) : bytes_(bytes) {}

  std::uint16_t u16() {
    if (!has(2)) return 0;
    const auto high = std::to_integer<unsigned>(bytes_[position_]);
    const auto low = std::to_integer<unsigned>(bytes_[position_ + 1]);
    position_ += 2;
    return static_cast<std::uint16_t>(high << 8 | low);
  }
  void skip(std::size_t count) {
    if (has(count)) position_ += count;
  }
  /// A name without compression. A label with a dot or a byte that isn't printable fails: none of ours has one.
  std::string name() {
    std::string result;
    while (has(1)) {
      const auto length = std::to_integer<std::size_t>(bytes_[position_++]);
      if (length == 0) return result;
      if (length > kMaxLabel || !has(length) || result.size() + length > kMaxName) break;
      if (!result.empty()) result += '.';
      for (std::size_t i = 0; i < length; ++i) {
        const auto c = static_cast<char>(bytes_[position_ + i]);
        if (c <= ' ' || c >= 127 || c == '.') good_ = false;
        result += lower(c);
      }
      position_ += length;
    }
    good_ = false;
    return result;
  }
  [[nodiscard]] bool good() const { return good_; }
  [[nodiscard]] std::size_t position() const { return position_; }

 private:
  bool has(std::size_t count) {
    good_ = good_ && bytes_.size() - position_ >= count;
    return good_;
  }
  std::span<const std::byte> bytes_;
  std::size_t position_ = 0;
  bool good_ = true;
};

/// The additional section of a query: nothing, or OPT and what else a client may send (a signature is passed on).
bool read_additional(Reader& reader, std::uint16_t count, std::optional<std::uint16_t>& edns_size) {
  for (; count > 0 && reader.good(); --count) {
    const std::string name = reader.name();
    const auto type = static_cast<Type>(reader.u16());
    const std::uint16_t size = reader.u16();
    reader.u16();
    reader.u16();
    reader.skip(reader.u16());
    if (type != Type::kOpt || !name.empty() || edns_size) return false;
    edns_size = std::max<std::uint16_t>(size, kPlainUdpSize);
  }
  return reader.good();
}

class Writer {
 public:
  void u16(std::uint16_t value) {
    bytes_.push_back(static_cast<std::byte>(value >> 8));
    bytes_.push_back(static_cast<std::byte>(value));
  }
  void u32(std::uint32_t value) {
    u16(static_cast<std::uint16_t>(value >> 16));
    u16(static_cast<std::uint16_t>(value));
  }
  void raw(std::span<const std::byte> bytes) { bytes_.insert(bytes_.end(), bytes.begin(), bytes.end()); }
  void name(std::string_view text) {
    while (!text.empty()) {
      const std::string_view label = text.substr(0, text.find('.'));
      bytes_.push_back(static_cast<std::byte>(label.size()));
      raw(std::as_bytes(std::span(label)));
      text.remove_prefix(std::min(text.size(), label.size() + 1));
    }
    bytes_.push_back(std::byte{0});
  }
  void record(const Record& record) {
    name(record.name);
    u16(static_cast<std::uint16_t>(type_of(record)));
    u16(kClassIn);
    u32(record.ttl_s);
    const std::size_t length_at = bytes_.size();
    u16(0);
    std::visit([this](const auto& data) { write(data); }, record.data);
    const std::size_t length = bytes_.size() - length_at - 2;
    bytes_[length_at] = static_cast<std::byte>(length >> 8);
    bytes_[length_at + 1] = static_cast<std::byte>(length);
  }
  std::vector<std::byte>& bytes() { return bytes_; }

 private:
  static Type type_of(const Record& record) {
    if (const auto* address = std::get_if<base::IpAddress>(&record.data)) {
      return address->is_v4() ? Type::kA : Type::kAaaa;
    }
    if (std::holds_alternative<Srv>(record.data)) return Type::kSrv;
    return std::holds_alternative<Soa>(record.data) ? Type::kSoa : Type::kPtr;
  }
  void write(const base::IpAddress& address) {
    const auto bytes = std::as_bytes(std::span(address.bytes));
    raw(address.is_v4() ? bytes.last(4) : bytes);
  }
  void write(const Srv& srv) {
    u16(0);  // priority: the mesh balances, not the client
    u16(1);
    u16(srv.port);
    name(srv.target);
  }
  void write(const std::string& target) { name(target); }
  void write(const Soa& soa) {
    name("ns." + soa.zone);
    name("hostmaster." + soa.zone);
    for (const std::uint32_t value : {1U, 3600U, 600U, 86400U, soa.negative_ttl_s}) u32(value);
  }
  std::vector<std::byte> bytes_;
};

}  // namespace

std::size_t Query::udp_limit() const {
  return edns_size ? std::min<std::size_t>(*edns_size, kEdnsSize) : kPlainUdpSize;
}

bool is_name(std::string_view name) {
  if (name.size() > kMaxName) return false;
  while (!name.empty()) {
    const std::size_t length = std::min(name.find('.'), name.size());
    if (length == 0 || length > kMaxLabel) return false;
    name.remove_prefix(length);
    if (!name.empty()) name.remove_prefix(1);
  }
  return true;
}

std::optional<Query> parse_query(std::span<const std::byte> message) {
  Reader reader(message);
  Query query;
  query.id = reader.u16();
  const std::uint16_t flags = reader.u16();
  const std::uint16_t questions = reader.u16();
  const std::uint16_t answers = reader.u16();
  const std::uint16_t authority = reader.u16();
  const std::uint16_t additional = reader.u16();
  if (!reader.good() || (flags & (kResponse | kOpcodeMask)) != 0 || questions != 1 || answers != 0 || authority != 0) {
    return std::nullopt;
  }
  query.recursion_desired = (flags & kRecursionDesired) != 0;
  query.name = reader.name();
  query.type = static_cast<Type>(reader.u16());
  const std::uint16_t klass = reader.u16();
  const std::size_t end = reader.position();
  if (!reader.good() || klass != kClassIn || !read_additional(reader, additional, query.edns_size)) return std::nullopt;
  query.question = message.subspan(kHeaderSize, end - kHeaderSize);
  return query;
}

std::vector<std::byte> encode(const Query& query, const Answer& answer, std::size_t limit) {
  Writer writer;
  writer.u16(query.id);
  writer.u16(0);  // flags and counts follow when they are known
  for (int section = 0; section < 4; ++section) writer.u16(0);
  writer.raw(query.question);
  const std::size_t room = limit - (query.edns_size ? kOptSize : 0);
  const auto add = [&](const std::vector<Record>& records) -> std::optional<std::uint16_t> {
    const std::size_t before = writer.bytes().size();
    for (const Record& record : records) writer.record(record);
    if (writer.bytes().size() <= room) return static_cast<std::uint16_t>(records.size());
    writer.bytes().resize(before);
    return std::nullopt;
  };
  const auto answers = add(answer.answers);
  const std::uint16_t authority = answers ? add(answer.authority).value_or(0) : 0;
  std::uint16_t additional = answers ? add(answer.additional).value_or(0) : 0;
  if (query.edns_size) {
    writer.name("");
    writer.u16(static_cast<std::uint16_t>(Type::kOpt));
    writer.u16(kEdnsSize);
    writer.u32(0);
    writer.u16(0);
    ++additional;
  }
  auto flags = static_cast<std::uint16_t>(kResponse | kAuthoritative | kRecursionAvailable |
                                          static_cast<std::uint16_t>(answer.rcode));
  if (query.recursion_desired) flags |= kRecursionDesired;
  if (!answers) flags |= kTruncated;
  Writer header;
  for (const std::uint16_t value : {flags, std::uint16_t{1}, answers.value_or(0), authority, additional}) {
    header.u16(value);
  }
  std::ranges::copy(header.bytes(), writer.bytes().begin() + 2);
  return std::move(writer.bytes());
}

}  // namespace mesh::names

// SPDX-License-Identifier: Apache-2.0
#include "discovery/zookeeper_wire.hpp"

#include <array>
#include <concepts>
#include <optional>

namespace mesh::discovery {
namespace {

constexpr std::int32_t kOpExists = 3;
constexpr std::int32_t kOpData = 4;
constexpr std::int32_t kOpChildren = 8;
constexpr std::int32_t kOpPing = 11;
constexpr std::int32_t kOpDigest = 100;
constexpr std::int32_t kOpClose = -11;
constexpr std::size_t kPasswordBytes = 16;

/// Jute: numbers with their high byte first; texts with their length.
class Writer {
 public:
  template <std::integral Number>
  Writer& number(Number value) {
    for (int shift = 8 * (static_cast<int>(sizeof(Number)) - 1); shift >= 0; shift -= 8) {
      bytes_ += static_cast<char>(static_cast<std::uint64_t>(value) >> shift);
    }
    return *this;
  }
  Writer& text(std::string_view value) {
    number(static_cast<std::int32_t>(value.size()));
    bytes_ += value;
    return *this;
  }
  [[nodiscard]] std::string framed() const {
    return Writer().number(static_cast<std::int32_t>(bytes_.size())).bytes_ + bytes_;
  }

 private:
  std::string bytes_;
};

class Reader {
 public:
  explicit Reader(std::string_view bytes) : bytes_(bytes) {}

  template <std::signed_integral Number>
  std::optional<Number> number() {
    if (bytes_.size() < sizeof(Number)) return std::nullopt;
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < sizeof(Number); ++i) value = value << 8 | static_cast<std::uint8_t>(bytes_[i]);
    bytes_.remove_prefix(sizeof(Number));
    return static_cast<Number>(value);
  }
  /// A text of length -1 is none, and read as empty.
  std::optional<std::string_view> text() {
    const auto length = number<std::int32_t>();
    if (!length || *length < -1) return std::nullopt;
    if (*length == -1) return std::string_view{};
    if (bytes_.size() < static_cast<std::size_t>(*length)) return std::nullopt;
    const std::string_view value = bytes_.substr(0, static_cast<std::size_t>(*length));
    bytes_.remove_prefix(value.size());
    return value;
  }
  [[nodiscard]] std::size_t left() const { return bytes_.size(); }
  [[nodiscard]] std::string_view rest() const { return bytes_; }

 private:
  std::string_view bytes_;
};

std::unexpected<base::Error> garbage(std::string_view what) {
  return base::fail(base::ErrorKind::kInvalid, "read " + std::string(what) + " of ZooKeeper: not what it says",
                    "check that the address is that of ZooKeeper's clients' port, without TLS");
}

}  // namespace

std::string_view to_string(ZookeeperRead value) {
  static constexpr std::array<std::string_view, 3> kNames = {"existence", "data", "children"};
  return kNames[static_cast<std::size_t>(value)];
}

std::string zookeeper_error_text(std::int32_t error) {
  switch (error) {
    case zookeeper_error::kNoNode:
      return "no node";
    case zookeeper_error::kNoAuth:
      return "no permission";
    case zookeeper_error::kAuthFailed:
      return "authentication failed";
    case zookeeper_error::kNeedsAuth:
      return "the server wants another authentication";
    default:
      return "error " + std::to_string(error);
  }
}

std::string zookeeper_hello(std::int64_t last_zxid, std::int32_t session_timeout_ms) {
  return Writer()
      .number<std::int32_t>(0)  // version
      .number(last_zxid)
      .number(session_timeout_ms)
      .number<std::int64_t>(0)  // a new session
      .text(std::string(kPasswordBytes, '\0'))
      .number<std::int8_t>(0)  // not a server that only reads, because it has lost the others
      .framed();
}

std::string zookeeper_digest(std::string_view user_and_password) {
  return Writer()
      .number(kZookeeperDigestXid)
      .number(kOpDigest)
      .number<std::int32_t>(0)
      .text("digest")
      .text(user_and_password)
      .framed();
}

std::string zookeeper_ping() { return Writer().number(kZookeeperPingXid).number(kOpPing).framed(); }

std::string zookeeper_close(std::int32_t xid) { return Writer().number(xid).number(kOpClose).framed(); }

std::string zookeeper_read(std::int32_t xid, ZookeeperRead what, std::string_view path) {
  static constexpr std::array<std::int32_t, 3> kOps = {kOpExists, kOpData, kOpChildren};
  return Writer()
      .number(xid)
      .number(kOps[static_cast<std::size_t>(what)])
      .text(path)
      .number<std::int8_t>(1)  // watch
      .framed();
}

base::Result<std::size_t> zookeeper_length(std::string_view bytes, std::size_t limit) {
  const auto length = Reader(bytes).number<std::int32_t>();
  if (!length || *length < 0) return garbage("the length of an answer");
  if (static_cast<std::size_t>(*length) > limit) {
    return base::fail(
        base::ErrorKind::kExhausted,
        "read an answer of ZooKeeper: " + std::to_string(*length) + " bytes are more than jute_maxbuffer (" +
            std::to_string(limit) + ")",
        "raise jute_maxbuffer, or name services in place of a pattern over a large folder; if the number is "
        "absurd, the address is not ZooKeeper's");
  }
  return static_cast<std::size_t>(*length);
}

base::Result<ZookeeperWelcome> parse_zookeeper_welcome(std::string_view frame) {
  Reader reader(frame);
  const auto version = reader.number<std::int32_t>();
  const auto timeout = reader.number<std::int32_t>();
  const auto session = reader.number<std::int64_t>();
  const auto password = reader.text();
  // Servers before 3.4 don't add the byte that says whether they only read.
  if (!version || *version != 0 || !timeout || !session || !password || password->size() > kPasswordBytes ||
      reader.left() > 1) {
    return garbage("the welcome");
  }
  return ZookeeperWelcome{*timeout};
}

base::Result<ZookeeperHeader> parse_zookeeper_header(std::string_view frame) {
  Reader reader(frame);
  const auto xid = reader.number<std::int32_t>();
  const auto zxid = reader.number<std::int64_t>();
  const auto error = reader.number<std::int32_t>();
  if (!xid || !zxid || !error) return garbage("an answer");
  return ZookeeperHeader{*xid, *zxid, *error, reader.rest()};
}

base::Result<ZookeeperAnswer> parse_zookeeper_answer(ZookeeperRead what, const ZookeeperHeader& header) {
  ZookeeperAnswer answer{.error = header.error};
  if (answer.error != zookeeper_error::kOk) return answer;
  Reader reader(header.body);
  if (what == ZookeeperRead::kChildren) {
    const auto count = reader.number<std::int32_t>();
    // Each name takes at least its length.
    if (!count || *count < -1 ||
        (*count > 0 && static_cast<std::size_t>(*count) > reader.left() / kZookeeperLengthBytes)) {
      return garbage("children");
    }
    for (std::int32_t i = 0; i < *count; ++i) {
      const auto name = reader.text();
      if (!name || name->empty() || name->contains('/')) return garbage("children");
      answer.children.emplace_back(*name);
    }
    return answer;
  }
  if (what == ZookeeperRead::kData) {
    const auto data = reader.text();
    if (!data) return garbage("data");
    answer.data = *data;
  }
  const auto created = reader.number<std::int64_t>();
  const auto changed = reader.number<std::int64_t>();
  if (!created || !changed) return garbage(to_string(what));
  answer.zxid = *changed;
  return answer;
}

base::Result<ZookeeperNews> parse_zookeeper_news(std::string_view body) {
  Reader reader(body);
  const auto type = reader.number<std::int32_t>();
  const auto state = reader.number<std::int32_t>();
  const auto path = reader.text();
  if (!type || !state || !path) return garbage("an event");
  return ZookeeperNews{*type, std::string(*path)};
}

}  // namespace mesh::discovery

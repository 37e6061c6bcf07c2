// SPDX-License-Identifier: Apache-2.0
// What goes over a connection to ZooKeeper: its requests, and its answers read with limits. Pure.
//
// Written here and not taken from libzookeeper, because that library ends the whole process on an answer it did not
// expect (an assertion in zookeeper_process()), and the network is full of those.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"

namespace mesh::discovery {

enum class ZookeeperRead : std::uint8_t { kExists, kData, kChildren };
std::string_view to_string(ZookeeperRead value);  // "children"

/// Values of ZooKeeper's KeeperException.Code that matter here.
namespace zookeeper_error {
inline constexpr std::int32_t kOk = 0;
inline constexpr std::int32_t kNoNode = -101;
inline constexpr std::int32_t kNoAuth = -102;
inline constexpr std::int32_t kAuthFailed = -115;
inline constexpr std::int32_t kNeedsAuth = -124;
}  // namespace zookeeper_error
/// "no node", "-7"
std::string zookeeper_error_text(std::int32_t error);

enum class ZookeeperEvent : std::uint8_t { kCreated = 1, kDeleted = 2, kDataChanged = 3, kChildrenChanged = 4 };

// Requests, each with the length in front.
std::string zookeeper_hello(std::int64_t last_zxid, std::int32_t session_timeout_ms);
std::string zookeeper_digest(std::string_view user_and_password);
std::string zookeeper_ping();
std::string zookeeper_close(std::int32_t xid);
/// Sets a watch in the same call.
std::string zookeeper_read(std::int32_t xid, ZookeeperRead what, std::string_view path);

// Numbers that stand where a request's number stands.
inline constexpr std::int32_t kZookeeperEventXid = -1;
inline constexpr std::int32_t kZookeeperPingXid = -2;
inline constexpr std::int32_t kZookeeperDigestXid = -4;

inline constexpr std::size_t kZookeeperLengthBytes = 4;
/// The length of the answer that `bytes` (at least kZookeeperLengthBytes) begin with. Error: less than nothing, or more
/// than `limit`.
base::Result<std::size_t> zookeeper_length(std::string_view bytes, std::size_t limit);

struct ZookeeperWelcome {
  std::int32_t session_timeout_ms = 0;  ///< 0: there is no such session.
};
base::Result<ZookeeperWelcome> parse_zookeeper_welcome(std::string_view frame);

struct ZookeeperHeader {
  std::int32_t xid = 0;
  std::int64_t zxid = 0;
  std::int32_t error = 0;
  std::string_view body;  ///< Of the frame.
};
base::Result<ZookeeperHeader> parse_zookeeper_header(std::string_view frame);

/// What a read brought. With an error all else is empty.
struct ZookeeperAnswer {
  std::int32_t error = 0;
  std::vector<std::string> children{};
  std::string_view data{};  ///< Of the frame.
  std::int64_t zxid = 0;    ///< Of the last change of the data.
};
base::Result<ZookeeperAnswer> parse_zookeeper_answer(ZookeeperRead what, const ZookeeperHeader& header);

struct ZookeeperNews {
  std::int32_t type = 0;  ///< A ZookeeperEvent, or another one.
  std::string path;
};
base::Result<ZookeeperNews> parse_zookeeper_news(std::string_view body);

}  // namespace mesh::discovery

// SPDX-License-Identifier: Apache-2.0
#include "datapath/books.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <map>

#include "datapath/records.hpp"
#include "tests/support/fake_map_store.hpp"
#include "tests/support/routing_builder.hpp"

namespace mesh::datapath {
namespace {

using namespace std::chrono_literals;

/// Services by id, two backends each: backends 10 and 11 are of service 1, 20 and 21 of service 2, ...
class BooksTest : public testing::Test, public BookSource {
 protected:
  static constexpr std::uint32_t kServices = 3;

  BooksTest() : store_(TableSizes{.services = 8, .ranges = 8, .slots = 64, .backends = 64}) {
    for (std::uint32_t id = 1; id <= kServices; ++id) {
      EXPECT_TRUE(store_.write_service(id, {key_of(frontend(id)), MESH_SERVICE_IN_USE, 0}));
      for (const std::uint32_t backend : {id * 10, id * 10 + 1}) give(backend, id, 1);
    }
  }

  [[nodiscard]] std::uint64_t connects(std::uint32_t service_id) const override { return connects_.at(service_id); }
  base::Result<void> read(std::span<const std::uint32_t> ids, const Visit& visit) const override {
    reads_ += ids.size();
    for (const std::uint32_t id : ids) visit(id, books_[id]);
    return {};
  }

  static model::Frontend frontend(std::uint32_t id) {
    return support::service({.frontend = "240.0.0." + std::to_string(id) + ":80"}).frontend;
  }
  void give(std::uint32_t backend_id, std::uint32_t service_id, std::uint32_t generation) {
    mesh_backend backend{.service_id = service_id, .generation = generation};
    const auto address = support::address("10.0.0." + std::to_string(backend_id) + ":80");
    std::memcpy(backend.addr, address.ip.bytes.data(), sizeof(backend.addr));
    backend.port_be = __builtin_bswap16(address.port);
    EXPECT_TRUE(store_.write_backend(backend_id, backend));
  }
  void open(std::uint32_t backend_id, std::uint64_t count = 1) {
    books_[backend_id].live.opened += count;
    connects_[backend_id / 10] += count;
  }
  void close(std::uint32_t backend_id, std::uint64_t count = 1) {
    books_[backend_id].live.closed += count;
    books_[backend_id].outcomes.ended[MESH_CLOSED] += count;
  }
  void fail(std::uint32_t backend_id, std::uint64_t count = 1) {
    open(backend_id, count);
    books_[backend_id].live.failed += count;
    books_[backend_id].live.closed += count;
    books_[backend_id].live.failures_in_row += static_cast<std::uint32_t>(count);
    books_[backend_id].outcomes.ended[MESH_REFUSED] += count;
  }

  /// Opened, closed and failed of each backend with news, as text.
  std::string look(base::Duration at) {
    const auto news = tested_.look(base::TimePoint(1h + at), applies_);
    EXPECT_TRUE(news);
    std::map<std::string, std::string> lines;
    for (const auto& service : *news) {
      for (const auto& backend : service.backends) {
        lines[backend.address.to_string()] = std::to_string(backend.news.opened) + "/" +
                                             std::to_string(backend.news.closed) + "/" +
                                             std::to_string(backend.news.failed);
      }
    }
    std::string text;
    for (const auto& [address, line] : lines) text += (text.empty() ? "" : ", ") + address + " " + line;
    return text;
  }

  support::FakeMapStore store_;
  std::map<std::uint32_t, std::uint64_t> connects_{{1, 0}, {2, 0}, {3, 0}};
  mutable std::map<std::uint32_t, Book> books_;
  mutable std::size_t reads_ = 0;
  std::uint64_t applies_ = 1;
  std::optional<std::uint32_t> unwanted_;
  Books tested_{*this, store_,
                [this](const model::Frontend& one) { return !unwanted_ || one != frontend(*unwanted_); }};
};

TEST_F(BooksTest, tells_what_came_since_the_last_look) {
  EXPECT_EQ(look(0s), "");
  open(10, 3);
  fail(11, 2);
  EXPECT_EQ(look(200ms), "10.0.0.10:80 3/0/0, 10.0.0.11:80 2/2/2");
  close(10, 3);
  open(20);
  EXPECT_EQ(look(400ms), "10.0.0.10:80 0/3/0, 10.0.0.20:80 1/0/0");
  EXPECT_EQ(look(600ms), "");
}

TEST_F(BooksTest, idle_services_are_not_read) {
  open(10);
  close(10);
  look(0s);
  const auto first = reads_;
  EXPECT_EQ(first, 2U);
  look(200ms);  // its books may still follow the connects
  look(1s);
  const auto settled = reads_;
  EXPECT_EQ(settled, 2U);
  open(20);
  close(20);
  for (int i = 0; i < 5; ++i) look(2s + i * 200ms);
  EXPECT_EQ(reads_, settled + 10);
  for (int i = 0; i < 100; ++i) look(4s + i * 200ms);
  EXPECT_EQ(reads_, settled + 10);
}

TEST_F(BooksTest, a_service_with_open_connections_is_read_once_a_second_until_they_are_closed) {
  look(0s);
  open(10);
  look(200ms);
  look(2s);
  reads_ = 0;
  for (int i = 0; i < 25; ++i) look(10s + i * 200ms);
  EXPECT_EQ(reads_, 5U * 2);
  close(10);
  EXPECT_EQ(look(20s), "10.0.0.10:80 0/1/0");
  EXPECT_EQ(look(30s), "");
  EXPECT_EQ(reads_, 6U * 2);
}

TEST_F(BooksTest, what_was_there_before_is_no_news) {
  fail(10, 1000);
  EXPECT_EQ(look(0s), "");
  fail(10, 2);
  EXPECT_EQ(look(200ms), "10.0.0.10:80 2/2/2");
}

TEST_F(BooksTest, another_identity_starts_at_zero) {
  fail(10, 5);
  look(0s);
  give(10, 1, 2);
  books_[10] = {};
  open(10);
  EXPECT_EQ(look(200ms), "");  // the ids are older than the backend
  ++applies_;
  EXPECT_EQ(look(400ms), "10.0.0.10:80 1/0/0");
  give(12, 1, 1);
  ++applies_;
  books_[12].live.opened = 4;
  connects_[1] += 4;
  EXPECT_EQ(look(600ms), "10.0.0.12:80 4/0/0");
}

TEST_F(BooksTest, counters_that_went_backwards_are_a_new_start) {
  open(10, 100);
  look(0s);
  books_[10] = {};
  open(10, 7);
  EXPECT_EQ(look(200ms), "10.0.0.10:80 7/0/0");
}

TEST_F(BooksTest, counters_may_pass_32_bits) {
  books_[10].live.opened = 0xfffffffe;
  books_[10].live.closed = 0xfffffffe;
  connects_[1] = 1;
  look(0s);
  open(10, 5);
  EXPECT_EQ(look(200ms), "10.0.0.10:80 5/0/0");
}

TEST_F(BooksTest, a_service_that_is_wanted_later_starts_there) {
  unwanted_ = 1;
  look(0s);
  fail(10, 50);
  EXPECT_EQ(look(200ms), "");
  unwanted_.reset();
  ++applies_;
  EXPECT_EQ(look(400ms), "");
  fail(10, 1);
  EXPECT_EQ(look(600ms), "10.0.0.10:80 1/1/1");
}

}  // namespace
}  // namespace mesh::datapath

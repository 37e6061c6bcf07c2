// SPDX-License-Identifier: Apache-2.0
// The books as the agent reads them from the kernel's maps.
#include "datapath/books.hpp"

#include <bpf/bpf.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>

#include "tests/bpf/mesh_fixture.hpp"

namespace mesh::test {
namespace {

using namespace std::chrono_literals;
using datapath::Book;
using datapath::Table;

class BooksTest : public MeshTest {
 protected:
  void put(std::uint32_t id, std::uint64_t opened, std::uint64_t refused) {
    Book book;
    book.live.opened = opened;
    book.outcomes.ended[MESH_REFUSED] = refused;
    ASSERT_EQ(::bpf_map_update_elem(mesh_->maps().fd(Table::kBackendLive), &id, &book.live, BPF_ANY), 0);
    ASSERT_EQ(::bpf_map_update_elem(mesh_->maps().fd(Table::kBackendOutcomes), &id, &book.outcomes, BPF_ANY), 0);
  }
};

TEST_F(BooksTest, any_part_of_the_books_can_be_read) {
  const std::uint32_t last = mesh_->maps().sizes().backends - 1;
  const std::vector<std::uint32_t> all = {1, 31, 32, 63, 64, 100, last / 2, last - 1, last};
  for (const std::uint32_t id : all) put(id, id, id * 2);
  const datapath::KernelBooks books(mesh_->maps());
  for (std::size_t begin = 0; begin < all.size(); ++begin) {
    for (std::size_t end = begin; end <= all.size(); ++end) {
      const std::span<const std::uint32_t> ids(all.data() + begin, end - begin);
      std::size_t seen = 0;
      ASSERT_TRUE(books.read(ids, [&](std::uint32_t id, const Book& book) {
        EXPECT_EQ(id, ids[seen++]);
        EXPECT_EQ(book.live.opened, id);
        EXPECT_EQ(book.outcomes.ended[MESH_REFUSED], id * 2);
      }));
      EXPECT_EQ(seen, ids.size());
    }
  }
}

TEST_F(BooksTest, connections_are_news_once) {
  const Server server = tcp_server();
  const base::SocketAddress closed = tcp_server().address;  // its socket is gone
  tables_->add_service(at("240.0.0.1:80"), IPPROTO_TCP, {server.address}, {.flags = MESH_RANGE_FEEDBACK});
  tables_->add_service(at("240.0.0.2:80"), IPPROTO_TCP, {closed}, {.flags = MESH_RANGE_FEEDBACK});
  const datapath::KernelBooks kernel(mesh_->maps());
  datapath::Books books(kernel, mesh_->store(), [](const model::Frontend&) { return true; });
  ASSERT_TRUE(books.look(base::TimePoint(1h), 1));
  for (int i = 0; i < 3; ++i) EXPECT_EQ(connect_to(open_socket(AF_INET, SOCK_STREAM), at("240.0.0.1:80")), 0);
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(connect_to(open_socket(AF_INET, SOCK_STREAM), at("240.0.0.2:80")), ECONNREFUSED);
  }
  const auto news = books.look(base::TimePoint(1h + 200ms), 1);
  ASSERT_TRUE(news);
  ASSERT_EQ(news->size(), 2U);
  for (const auto& service : *news) {
    ASSERT_EQ(service.backends.size(), 1U);
    const auto& backend = service.backends[0];
    const bool good = backend.address == server.address;
    EXPECT_EQ(backend.news.opened, good ? 3U : 2U);
    EXPECT_EQ(backend.news.closed, good ? 3U : 2U);
    EXPECT_EQ(backend.news.established, good ? 3U : 0U);
    EXPECT_EQ(backend.news.failed, good ? 0U : 2U);
    EXPECT_EQ(backend.news.ended[MESH_REFUSED], good ? 0U : 2U);
    EXPECT_EQ(backend.failures_in_row, good ? 0U : 2U);
  }
  const auto again = books.look(base::TimePoint(1h + 400ms), 1);
  ASSERT_TRUE(again);
  EXPECT_TRUE(again->empty());
}

}  // namespace
}  // namespace mesh::test
